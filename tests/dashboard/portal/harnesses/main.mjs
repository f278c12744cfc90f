import { readFileSync } from "node:fs";
import { verify } from "./webhook.mjs";

const [, , secret, body, requests] = process.argv;
for (const line of readFileSync(requests, "utf8").trim().split("\n")) {
  console.log(verify(readFileSync(body), JSON.parse(line), secret));
}
