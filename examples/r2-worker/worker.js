// Notifies Stoker of uploads to Cloudflare R2: consumes the queue of the bucket's notifications (docs/OPERATIONS.md).
// Variables: STOKER_URL, and the secret STOKER_TOKEN with the scope datasets:notify.
export default {
  async queue(batch, env) {
    const messages = batch.messages.map(({ id, timestamp, attempts, body }) => ({ id, timestamp, attempts, body }));
    const response = await fetch(`${env.STOKER_URL}/v1/uploads`, {
      method: "POST",
      headers: { "Authorization": `Bearer ${env.STOKER_TOKEN}`, "Content-Type": "application/json" },
      body: JSON.stringify({ messages }),
    });
    // A thrown error makes the queue deliver the batch again. Stoker accepts messages that can never become a job,
    // and lists them in GET /v1/rejected-events.
    if (!response.ok) throw new Error(`Stoker responded with ${response.status}`);
  },
};
