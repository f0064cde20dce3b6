// Tells Stoker of uploads to Cloudflare R2: the consumer of the queue that the bucket notifies (docs/OPERATIONS.md).
// Variables: STOKER_URL, and the secret STOKER_TOKEN with the scope datasets:notify.
export default {
  async queue(batch, env) {
    const messages = batch.messages.map(({ id, timestamp, attempts, body }) => ({ id, timestamp, attempts, body }));
    const answer = await fetch(`${env.STOKER_URL}/v1/uploads`, {
      method: "POST",
      headers: { "Authorization": `Bearer ${env.STOKER_TOKEN}`, "Content-Type": "application/json" },
      body: JSON.stringify({ messages }),
    });
    // What is not taken comes again; what can never become a job is taken, and shown by GET /v1/rejected-events.
    if (!answer.ok) throw new Error(`Stoker answered ${answer.status}`);
  },
};
