/** The inbox: marks each message in the transaction of its effect, so that a duplicate has no effect. */

/** A client of `pg`, or anything with its `query`. */
export interface InboxClient {
  query(sql: string, values?: unknown[]): Promise<{ rowCount: number | null }>;
}

/** A database of `better-sqlite3` or `node:sqlite`. */
export interface InboxDatabase {
  exec(sql: string): unknown;
  prepare(sql: string): { run(...values: unknown[]): { changes: number | bigint } };
}

export interface InboxOptions {
  /** Name of the consumer. Consumers with different names may share a table: each handles a message once. */
  consumer?: string | undefined;
}

/** The statements that create the table, on PostgreSQL and SQLite. */
export const INBOX_TABLE = `CREATE TABLE IF NOT EXISTS discue_inbox (
    message text NOT NULL,
    consumer text NOT NULL,
    marked_at bigint NOT NULL,
    PRIMARY KEY (message, consumer)
);
CREATE INDEX IF NOT EXISTS discue_inbox_marked_at ON discue_inbox (marked_at);`;

const MARK = "INSERT INTO discue_inbox (message, consumer, marked_at) VALUES";
const UNLESS_MARKED = "ON CONFLICT (message, consumer) DO NOTHING";
const BEGIN = "SAVEPOINT discue_inbox";
const END = "RELEASE SAVEPOINT discue_inbox";
const UNDO = "ROLLBACK TO SAVEPOINT discue_inbox";

/**
 * Run the effect unless the message was handled before, and return whether it ran.
 *
 * `client` must be in a transaction, which PostgreSQL enforces. Its commit stores the mark and the effect. An error of
 * the effect undoes both, and is thrown. While another transaction handles the same message, this waits for its end.
 */
export async function once(
  client: InboxClient,
  message: { id: string } | string,
  effect: () => unknown,
  { consumer = "" }: InboxOptions = {},
): Promise<boolean> {
  const mark = markOf(message, consumer);
  await client.query(BEGIN);
  try {
    const isFirst = (await client.query(`${MARK} ($1, $2, $3) ${UNLESS_MARKED}`, mark)).rowCount === 1;
    if (isFirst) await effect();
    await client.query(END);
    return isFirst;
  } catch (error) {
    // An error of the rollback, such as a lost connection, has the same cause and says less.
    await client.query(UNDO).catch(() => undefined);
    throw error;
  }
}

/**
 * Like `once`, on SQLite, with an effect that is not async. Commits at its end if no transaction is open.
 */
export function onceSync(
  database: InboxDatabase,
  message: { id: string } | string,
  effect: () => unknown,
  { consumer = "" }: InboxOptions = {},
): boolean {
  const mark = markOf(message, consumer);
  database.exec(BEGIN);
  try {
    const isFirst = Number(database.prepare(`${MARK} (?, ?, ?) ${UNLESS_MARKED}`).run(...mark).changes) === 1;
    if (isFirst && effect() instanceof Promise) {
      throw new TypeError("The effect must not be async: it would end after the commit.");
    }
    database.exec(END);
    return isFirst;
  } catch (error) {
    try {
      database.exec(`${UNDO}; ${END}`);
    } catch {
      // Some errors, such as a full disk, have rolled back the whole transaction.
    }
    throw error;
  }
}

function markOf(message: { id: string } | string, consumer: string): [string, string, number] {
  const id = typeof message === "string" ? message : message?.id;
  if (typeof id !== "string" || !id) throw new TypeError("The inbox takes an event or the id of a message.");
  return [id, consumer, Date.now()];
}
