// The front desk with Npgsql: reminders are enqueued in its own transactions, outcomes and replies read by cursor.

using Npgsql;

await using var source = NpgsqlDataSource.Create(Environment.GetEnvironmentVariable("DATABASE")!);
await using var connection = await source.OpenConnectionAsync();

var at = DateTime.UtcNow.AddDays(7);
var booked = await Book(connection, 1, "+447700900123", at, "Your appointment is next week. Reply YES to confirm.");
Console.WriteLine($"booked: {booked.Outcome}");

try
{
    await Book(connection, 2, "0612345678", at, "Hello");
}
catch (PostgresException error) when (error.SqlState == "TC400")
{
    // nothing of the transaction is left, the appointment neither
    Console.WriteLine($"malformed: {error.SqlState} {error.ColumnName}");
}

await using (var cancel = new NpgsqlCommand("select tocsin.cancel($1)", connection))
{
    cancel.Parameters.Add(new() { Value = booked.JobId });
    Console.WriteLine($"cancel: {await cancel.ExecuteScalarAsync()}");
}

await using (var listen = new NpgsqlCommand("listen tocsin_event", connection))
{
    await listen.ExecuteNonQueryAsync();
}
while (true)
{
    while (await ReadEvents(connection) > 0) { }
    await connection.WaitAsync(TimeSpan.FromSeconds(5)); // the hint saves waiting; reading does not depend on it
}

// Books an appointment together with its reminder: both are there after the commit, or neither.
static async Task<Reminder> Book(NpgsqlConnection connection, long number, string phone, DateTime at, string body)
{
    for (var attempt = 1; ; attempt++)
    {
        await using var transaction = await connection.BeginTransactionAsync();
        try
        {
            await using var insert = new NpgsqlCommand(
                "insert into frontdesk.appointment (id, phone, at) values ($1, $2, $3) on conflict do nothing",
                connection, transaction)
            {
                Parameters = { new() { Value = number }, new() { Value = phone }, new() { Value = at } }
            };
            await insert.ExecuteNonQueryAsync();

            Reminder reminder;
            await using (var enqueue = new NpgsqlCommand(
                """
                select job_id, outcome, reason
                from tocsin.enqueue($1, $2, idempotency_key => $3, not_before => $4, client_ref => $5)
                """, connection, transaction)
            {
                Parameters =
                {
                    new() { Value = phone }, new() { Value = body }, new() { Value = $"reminder-{number}" },
                    new() { Value = at.AddDays(-1) }, new() { Value = $"appointment {number}" }
                }
            })
            await using (var row = await enqueue.ExecuteReaderAsync())
            {
                await row.ReadAsync();
                reminder = new(row.GetInt64(0), row.GetString(1), row.IsDBNull(2) ? null : row.GetString(2));
            }

            await using var update = new NpgsqlCommand(
                "update frontdesk.appointment set job_id = $2, outcome = $3, reason = $4 where id = $1",
                connection, transaction)
            {
                Parameters =
                {
                    new() { Value = number }, new() { Value = reminder.JobId }, new() { Value = reminder.Outcome },
                    new() { Value = (object?)reminder.Reason ?? DBNull.Value }
                }
            };
            await update.ExecuteNonQueryAsync();
            await transaction.CommitAsync();
            return reminder;
        }
        catch (PostgresException error) when (error.SqlState == "55P03" && attempt < 3)
        {
            // the same key is in another open transaction; leaving this one undoes it, and we ask again
        }
    }
}

// Deals with the next events and remembers how far, in one transaction. Returns how many there were.
static async Task<int> ReadEvents(NpgsqlConnection connection)
{
    await using var transaction = await connection.BeginTransactionAsync();
    var events = new List<(long Seq, string Type, long Subject, string? Reason)>();
    await using (var next = new NpgsqlCommand(
        """
        select seq, type, subject::bigint, data ->> 'reason' from tocsin.event
        where seq > (select seq from frontdesk.progress where reader = 'outcomes' for update)
        order by seq limit 100
        """, connection, transaction))
    await using (var row = await next.ExecuteReaderAsync())
    {
        while (await row.ReadAsync())
        {
            events.Add((row.GetInt64(0), row.GetString(1), row.GetInt64(2), row.IsDBNull(3) ? null : row.GetString(3)));
        }
    }
    foreach (var e in events)
    {
        await using var handle = e.Type == "inbound.received"
            ? new NpgsqlCommand(
                """
                insert into frontdesk.reply (inbound_id, phone, text, at)
                select inbound_id, source, text, received_at from tocsin.inbox where inbound_id = $1
                """, connection, transaction)
            {
                Parameters = { new() { Value = e.Subject } }
            }
            : new NpgsqlCommand(
                "update frontdesk.appointment set outcome = $2, reason = $3 where job_id = $1", connection, transaction)
            {
                Parameters =
                {
                    new() { Value = e.Subject }, new() { Value = e.Type["job.".Length..] },
                    new() { Value = (object?)e.Reason ?? DBNull.Value }
                }
            };
        await handle.ExecuteNonQueryAsync();
    }
    if (events.Count > 0)
    {
        await using var keep = new NpgsqlCommand("update frontdesk.progress set seq = $1", connection, transaction)
        {
            Parameters = { new() { Value = events[^1].Seq } }
        };
        await keep.ExecuteNonQueryAsync();
    }
    await transaction.CommitAsync();
    return events.Count;
}

record Reminder(long JobId, string Outcome, string? Reason);
