import os

ALLOWED_HOSTS = os.environ.get("ALLOWED_HOSTS", "127.0.0.1").split()
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("DATABASE", "warehouse.db"),
        "OPTIONS": {"transaction_mode": "IMMEDIATE"},
        # In a file, because the test kit calls the application on other threads.
        "TEST": {"NAME": "test.db"},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["discue_client.inbox.django", "warehouse"]
ROOT_URLCONF = "warehouse.urls"
USE_TZ = True
