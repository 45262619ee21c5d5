// Ticks with BullMQ: `JOBS` delayed jobs, all due at one instant; prints the milliseconds from then until the last one is completed.
// Tuned as its documentation advises: `addBulk`, one connection a worker, concurrency far above one, completed jobs removed.
import { Queue, Worker } from "bullmq";

const connection = { host: "127.0.0.1", port: Number(process.env.REDIS_PORT), maxRetriesPerRequest: null };
const jobs = Number(process.env.JOBS);
const queue = new Queue("ticks", { connection });
await queue.waitUntilReady();
let due = Date.now() + Number(process.env.LEAD_MS);
for (let first = 0; first < jobs; first += 1000) {
  const bulk = Array.from({ length: Math.min(1000, jobs - first) }, (_, index) => ({
    name: "tick",
    data: { callId: `c_${first + index}`, minute: 1, at: new Date(due).toISOString(), connectedAt: new Date(due - 60000).toISOString() },
    opts: { delay: Math.max(0, due - Date.now()), removeOnComplete: true, jobId: `c_${first + index}.1` },
  }));
  await queue.addBulk(bulk);
}
if (Date.now() >= due) throw new Error("the jobs were added too late; raise LEAD_MS");
let completed = 0;
const worker = new Worker("ticks", async () => {}, { connection, concurrency: 1000 });
worker.on("completed", () => {
  completed += 1;
  if (completed === jobs) {
    console.log(Date.now() - due);
    process.exit(0);
  }
});
