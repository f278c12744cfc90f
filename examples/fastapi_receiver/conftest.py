import os

# Before the application is imported.
os.environ["DISCUE_WEBHOOK_SECRET"] = "whsec_" + "A" * 32
