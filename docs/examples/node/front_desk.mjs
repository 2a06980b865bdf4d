// The front desk with node-postgres: reminders are enqueued in its own transactions, outcomes and replies read by cursor.

import pg from "pg";

const BODY = "Your appointment is next week. Reply YES to confirm.";
const DAY_MS = 86_400_000;

/** Runs work in a transaction; what it throws undoes it all. */
async function transaction(client, work, isolation = "read committed") {
  await client.query(`begin isolation level ${isolation}`);
  try {
    const result = await work();
    await client.query("commit");
    return result;
  } catch (error) {
    await client.query("rollback");
    throw error;
  }
}

/** Books an appointment together with its reminder: both are there after the commit, or neither. */
async function book(client, number, phone, at, body = BODY) {
  for (let attempt = 1; ; attempt++) {
    try {
      return await transaction(client, async () => {
        await client.query(
          "insert into frontdesk.appointment (id, phone, at) values ($1, $2, $3) on conflict do nothing",
          [number, phone, at],
        );
        const { rows: [reminder] } = await client.query(
          `select job_id, outcome, reason
           from tocsin.enqueue($1, $2, idempotency_key => $3, not_before => $4, client_ref => $5)`,
          [phone, body, `reminder-${number}`, new Date(at - DAY_MS), `appointment ${number}`],
        );
        await client.query(
          "update frontdesk.appointment set job_id = $2, outcome = $3, reason = $4 where id = $1",
          [number, reminder.job_id, reminder.outcome, reminder.reason],
        );
        return reminder; // job_id is a string: node-postgres does not squeeze a bigint into a number
      });
    } catch (error) {
      // 55P03: the same key is in another open transaction; ask again
      if (error.code !== "55P03" || attempt === 3) throw error;
    }
  }
}

/** Deals with the next events and remembers how far, in one transaction. Returns how many there were. */
function readEvents(client) {
  return transaction(client, async () => {
    const { rows: [progress] } = await client.query(
      "select seq from frontdesk.progress where reader = 'outcomes' for update",
    );
    const { rows: events } = await client.query(
      "select seq, type, subject, data from tocsin.event where seq > $1 order by seq limit 100",
      [progress.seq],
    );
    for (const event of events) {
      if (event.type === "inbound.received") {
        const { rows: [reply] } = await client.query(
          `insert into frontdesk.reply (inbound_id, phone, text, at)
           select inbound_id, source, text, received_at from tocsin.inbox where inbound_id = $1 returning text`,
          [event.subject],
        );
        console.log(`reply: ${reply.text.length} characters`);
      } else {
        const outcome = event.type.replace(/^job\./, "");
        await client.query(
          "update frontdesk.appointment set outcome = $2, reason = $3 where job_id = $1",
          [event.subject, outcome, event.data.reason],
        );
        console.log(`event: ${outcome} ${event.data.reason ?? ""}`);
      }
    }
    if (events.length > 0) {
      await client.query("update frontdesk.progress set seq = $1", [events.at(-1).seq]);
    }
    return events.length;
  });
}

const client = new pg.Client({ connectionString: process.env.DATABASE_URL });
await client.connect();
const at = new Date(Date.now() + 7 * DAY_MS);

const booked = await book(client, 1, "+447700900123", at);
console.log("booked:", booked.outcome);
const again = await book(client, 1, "+447700900123", at); // as after a crash: was it heard?
console.log("booked again:", again.outcome, again.job_id === booked.job_id);
const abroad = await book(client, 2, "+33612345678", at);
console.log("abroad:", abroad.outcome, abroad.reason); // committed too: the row says why nothing was sent

for (const [name, number, phone, body] of [
  ["malformed", 3, "0612345678", "Hello"],
  ["another request", 1, "+447700900123", "Another text with the same key"],
]) {
  try {
    await book(client, number, phone, at, body);
  } catch (error) { // nothing of the transaction is left, the appointment neither
    console.log(`${name}: ${error.code} ${error.column}`);
  }
}

const texts = [
  { recipient: "+447700900124", body: "The clinic opens at 10:00 today.", category: "informational" },
  { recipient: "+447700900125", body: "", category: "informational" },
];
const { rows } = await client.query("select * from tocsin.enqueue_many($1) order by item", [JSON.stringify(texts)]);
console.log("many:", rows.map((row) => row.outcome + (row.reason ? ` (${row.reason})` : "")).join(", "));

const cancel = async () => (await client.query("select tocsin.cancel($1)", [booked.job_id])).rows[0].cancel;
console.log("cancel:", await cancel());
try {
  await transaction(client, cancel, "repeatable read");
} catch (error) {
  console.log("cancel above read committed:", error.code);
}

let wake = () => {};
client.on("notification", () => wake());
await client.query("listen tocsin_event");
for (let seen = 0; seen < 3; ) { // a service goes on for ever
  seen += await readEvents(client);
  await new Promise((resolve) => { // the hint saves waiting; reading does not depend on it
    wake = resolve;
    setTimeout(resolve, 1000);
  });
}
await client.end();
