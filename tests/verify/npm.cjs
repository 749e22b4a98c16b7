// Standard Webhooks' own library for JavaScript: cases in, whether each verifies out (README.md).
const { Webhook, WebhookVerificationError } = require("standardwebhooks");

const verifies = ({ key, headers, body }) => {
  try {
    new Webhook(key).verify(Buffer.from(body, "base64").toString("utf8"), headers);
    return true;
  } catch (error) {
    if (error instanceof WebhookVerificationError) return false;
    throw error;
  }
};
const cases = JSON.parse(require("fs").readFileSync(0, "utf8"));
console.log(JSON.stringify(cases.map(verifies)));
