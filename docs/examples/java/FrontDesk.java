import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.time.OffsetDateTime;
import java.time.ZoneOffset;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import org.postgresql.PGConnection;
import org.postgresql.util.PSQLException;

/** The front desk with JDBC: reminders are enqueued in its own transactions, outcomes and replies read by cursor. */
public class FrontDesk {
    record Reminder(long jobId, String outcome, String reason) {}

    static final String BODY = "Your appointment is next week. Reply YES to confirm.";

    /** Books an appointment together with its reminder: both are there after the commit, or neither. */
    static Reminder book(Connection connection, long number, String phone, OffsetDateTime at, String body)
            throws SQLException {
        for (int attempt = 1; ; attempt++) {
            try {
                Reminder reminder = bookOnce(connection, number, phone, at, body);
                connection.commit();
                return reminder;
            } catch (SQLException error) {
                connection.rollback();
                // 55P03: the same key is in another open transaction; ask again
                if (!"55P03".equals(error.getSQLState()) || attempt == 3) {
                    throw error;
                }
            }
        }
    }

    static Reminder bookOnce(Connection connection, long number, String phone, OffsetDateTime at, String body)
            throws SQLException {
        try (PreparedStatement insert = connection.prepareStatement(
                "insert into frontdesk.appointment (id, phone, at) values (?, ?, ?) on conflict do nothing")) {
            insert.setLong(1, number);
            insert.setString(2, phone);
            insert.setObject(3, at);
            insert.executeUpdate();
        }
        Reminder reminder;
        try (PreparedStatement enqueue = connection.prepareStatement("""
                select job_id, outcome, reason
                from tocsin.enqueue(?, ?, idempotency_key => ?, not_before => ?, client_ref => ?)
                """)) {
            enqueue.setString(1, phone);
            enqueue.setString(2, body);
            enqueue.setString(3, "reminder-" + number);
            enqueue.setObject(4, at.minusDays(1));
            enqueue.setString(5, "appointment " + number);
            ResultSet row = enqueue.executeQuery();
            row.next();
            reminder = new Reminder(row.getLong(1), row.getString(2), row.getString(3));
        }
        try (PreparedStatement update = connection.prepareStatement(
                "update frontdesk.appointment set job_id = ?, outcome = ?, reason = ? where id = ?")) {
            update.setLong(1, reminder.jobId());
            update.setString(2, reminder.outcome());
            update.setString(3, reminder.reason());
            update.setLong(4, number);
            update.executeUpdate();
        }
        return reminder;
    }

    /** Deals with the next events and remembers how far, in one transaction. Returns how many there were. */
    static int readEvents(Connection connection) throws SQLException {
        record Event(long seq, String type, long subject, String reason) {}
        List<Event> events = new ArrayList<>();
        try (PreparedStatement next = connection.prepareStatement("""
                select seq, type, subject::bigint, data ->> 'reason' from tocsin.event
                where seq > (select seq from frontdesk.progress where reader = 'outcomes' for update)
                order by seq limit 100
                """)) {
            ResultSet row = next.executeQuery();
            while (row.next()) {
                events.add(new Event(row.getLong(1), row.getString(2), row.getLong(3), row.getString(4)));
            }
        }
        for (Event event : events) {
            if (event.type().equals("inbound.received")) {
                try (PreparedStatement store = connection.prepareStatement("""
                        insert into frontdesk.reply (inbound_id, phone, text, at)
                        select inbound_id, source, text, received_at from tocsin.inbox where inbound_id = ?
                        returning text
                        """)) {
                    store.setLong(1, event.subject());
                    ResultSet reply = store.executeQuery();
                    reply.next();
                    System.out.println("reply: " + reply.getString(1).length() + " characters");
                }
            } else {
                String outcome = event.type().replaceFirst("^job\\.", "");
                try (PreparedStatement update = connection.prepareStatement(
                        "update frontdesk.appointment set outcome = ?, reason = ? where job_id = ?")) {
                    update.setString(1, outcome);
                    update.setString(2, event.reason());
                    update.setLong(3, event.subject());
                    update.executeUpdate();
                }
                System.out.println("event: " + outcome + " " + Objects.toString(event.reason(), ""));
            }
        }
        if (!events.isEmpty()) {
            try (PreparedStatement keep = connection.prepareStatement("update frontdesk.progress set seq = ?")) {
                keep.setLong(1, events.get(events.size() - 1).seq());
                keep.executeUpdate();
            }
        }
        connection.commit();
        return events.size();
    }

    static String cancel(Connection connection, long jobId) throws SQLException {
        try (PreparedStatement cancel = connection.prepareStatement("select tocsin.cancel(?)")) {
            cancel.setLong(1, jobId);
            ResultSet row = cancel.executeQuery();
            row.next();
            return row.getString(1);
        }
    }

    public static void main(String[] arguments) throws SQLException {
        Connection connection = DriverManager.getConnection(System.getenv("JDBC_URL"));
        connection.setAutoCommit(false);
        OffsetDateTime at = OffsetDateTime.now(ZoneOffset.UTC).plusDays(7).truncatedTo(ChronoUnit.MICROS);

        Reminder booked = book(connection, 1, "+447700900123", at, BODY);
        System.out.println("booked: " + booked.outcome());
        Reminder again = book(connection, 1, "+447700900123", at, BODY); // as after a crash: was it heard?
        System.out.println("booked again: " + again.outcome() + " " + (again.jobId() == booked.jobId()));
        Reminder abroad = book(connection, 2, "+33612345678", at, BODY);
        System.out.println("abroad: " + abroad.outcome() + " " + abroad.reason()); // committed: the row says why

        record Wrong(String name, long number, String phone, String body) {}
        for (Wrong wrong : List.of(
                new Wrong("malformed", 3, "0612345678", "Hello"),
                new Wrong("another request", 1, "+447700900123", "Another text with the same key"))) {
            try {
                book(connection, wrong.number(), wrong.phone(), at, wrong.body());
            } catch (PSQLException error) { // nothing of the transaction is left, the appointment neither
                System.out.println(wrong.name() + ": " + error.getSQLState() + " "
                        + error.getServerErrorMessage().getColumn());
            }
        }

        try (PreparedStatement many = connection.prepareStatement(
                "select outcome, reason from tocsin.enqueue_many(?::jsonb) order by item")) {
            many.setString(1, """
                    [{"recipient": "+447700900124", "body": "The clinic opens at 10:00 today.", "category": "informational"},
                     {"recipient": "+447700900125", "body": "", "category": "informational"}]
                    """);
            ResultSet row = many.executeQuery();
            List<String> outcomes = new ArrayList<>();
            while (row.next()) {
                outcomes.add(row.getString(1) + (row.getString(2) == null ? "" : " (" + row.getString(2) + ")"));
            }
            System.out.println("many: " + String.join(", ", outcomes));
        }
        connection.commit();

        System.out.println("cancel: " + cancel(connection, booked.jobId()));
        connection.commit();
        connection.setTransactionIsolation(Connection.TRANSACTION_REPEATABLE_READ);
        try {
            cancel(connection, booked.jobId());
        } catch (SQLException error) {
            System.out.println("cancel above read committed: " + error.getSQLState());
        }
        connection.rollback();
        connection.setTransactionIsolation(Connection.TRANSACTION_READ_COMMITTED);

        connection.createStatement().execute("listen tocsin_event");
        connection.commit();
        for (int seen = 0; seen < 3; ) { // a service goes on for ever
            seen += readEvents(connection);
            connection.unwrap(PGConnection.class).getNotifications(1000); // the hint saves waiting, no more
        }
        connection.close();
    }
}
