import importlib
import json
import sys
from pathlib import Path

verify = importlib.import_module("webhook").verify

secret, body, requests = sys.argv[1:]
for line in Path(requests).read_text().splitlines():
    print(json.dumps(verify(Path(body).read_bytes(), json.loads(line), secret)))
