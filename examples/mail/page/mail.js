/**
 * The mail of this browser: what the server's projections say, and upon it what the user has done and the
 * server has not told back yet.
 *
 * Three things make a list: a live window of the newest messages; pages of older ones, fetched when they
 * are asked for; and the edits on their way. An edit is shown at once. It is let go of when the live query has
 * come to where it was recorded, or when it is refused, and then what it showed is undone by itself.
 */
import { command, documents, projection } from '/tidewire.js';

/** Messages that are followed live, and that a further page has. */
const PAGE = 50;

/** Calls `changed` whenever there is something new to show. */
export const createMail = (client, changed) => {
  const mailboxes = projection(client, 'mailboxes');
  mailboxes.subscribe(() => settle());

  /** What the user did: { message, mailbox, unread, to?, read?, deleted?, position? }. */
  let edits = [];
  /** The mailbox that is shown: its live window and its older messages. */
  let open;

  const settle = () => {
    const counted = mailboxes.getSnapshot().position ?? 0;
    const listed = open?.window.getSnapshot().position ?? Infinity;
    edits = edits.filter(({ position }) => position === undefined || position > counted || position > listed);
    changed();
  };

  const queryOf = (mailbox) => ({
    where: { eq: ['mailbox', mailbox] },
    order: { by: 'received_at', direction: 'descending' },
  });

  /** What the window has no more room for stays in the list, once older messages are there. */
  const keepWhatFellOut = (list, before, now) => {
    const last = [...now.values()].at(-1);
    for (const [key, message] of before)
      if (last && !now.has(key) && message.received_at < last.received_at) list.older.set(key, message);
  };

  const show = (mailbox) => {
    open?.window.stop();
    const window = projection(client, 'messages', { ...queryOf(mailbox), limit: PAGE });
    const list = { mailbox, window, older: new Map(), cursor: undefined, complete: false, loading: false };
    open = list;
    let before = new Map();
    window.subscribe(() => {
      const now = window.getSnapshot().documents;
      if (list.cursor !== undefined || list.complete) keepWhatFellOut(list, before, now);
      before = now;
      settle();
    });
    changed();
  };

  /** Fetches the next older page of the mailbox that is shown. */
  const older = async () => {
    const list = open;
    if (!list || list.loading || list.complete) return;
    list.loading = true;
    changed();
    try {
      // The first page has the live window in it.
      const limit = list.cursor === undefined ? 2 * PAGE : PAGE;
      const query = { projection: 'messages', ...queryOf(list.mailbox) };
      const page = await documents(client, query, { limit, ...(list.cursor !== undefined && { cursor: list.cursor }) });
      for (const { key, document } of page.documents) list.older.set(key, document);
      list.cursor = page.next;
      list.complete = !page.more;
    } catch (error) {
      // The documents were rebuilt meanwhile: the next page is the first again.
      if (error.code !== 'stale_cursor') throw error;
      list.cursor = undefined;
    } finally {
      list.loading = false;
      changed();
    }
  };

  /** The message as it is shown, with the edits on their way; undefined: it is not in the mailbox. */
  const edited = (key, message, mailbox) => {
    let shown = { ...message, mailbox };
    for (const edit of edits) {
      if (edit.message !== key) continue;
      if (edit.deleted) return undefined;
      shown = { ...shown, mailbox: edit.to ?? shown.mailbox, read: edit.read ?? shown.read };
    }
    return shown.mailbox === mailbox ? shown : undefined;
  };

  const messages = () => {
    if (!open) return { list: [], more: false, loading: false };
    const { phase, documents: newest } = open.window.getSnapshot();
    const found = new Map([...open.older, ...newest]);
    const list = [...found]
      .map(([key, message]) => [key, edited(key, message, open.mailbox)])
      .filter(([, message]) => message)
      .sort(([, a], [, b]) => b.received_at - a.received_at);
    return { list, more: !open.complete && newest.size >= PAGE, loading: phase === 'loading' || open.loading };
  };

  /** The mailboxes with their counts, and what edits on their way change in them. */
  const boxes = () => {
    const { documents: counted, position = 0 } = mailboxes.getSnapshot();
    const shown = new Map([...counted].map(([key, mailbox]) => [key, { ...mailbox }]));
    const count = (key, total, unread) => {
      const mailbox = shown.get(key);
      if (!mailbox) return;
      mailbox.total += total;
      mailbox.unread += unread;
    };
    for (const edit of edits) {
      // It is in the counts already.
      if (edit.position <= position) continue;
      const unread = Number(edit.unread);
      if (edit.read !== undefined) count(edit.mailbox, 0, edit.read ? -1 : 1);
      if (edit.deleted || edit.to) count(edit.mailbox, -1, -unread);
      if (edit.to) count(edit.to, 1, unread);
    }
    return [...shown].sort(([, a], [, b]) => a.name.localeCompare(b.name));
  };

  /** What became of an older message, which nobody follows. */
  const amend = (list, { message, to, read, deleted }) => {
    const present = list?.older.get(message);
    if (!present) return;
    if (deleted || to) list.older.delete(message);
    else list.older.set(message, { ...present, read });
  };

  /** Does something to a message: shown at once, undone if the server refuses. */
  const edit = async (name, input, what) => {
    const list = open;
    const one = { message: input.message, ...what };
    edits = [...edits, one];
    changed();
    try {
      const { position } = await command(client, name, input);
      amend(list, one);
      // Without a position nothing was to be done.
      if (position === undefined) edits = edits.filter((each) => each !== one);
      else one.position = position;
    } catch (error) {
      edits = edits.filter((each) => each !== one);
      throw error;
    } finally {
      settle();
    }
  };

  const of = ({ mailbox, read }) => ({ mailbox, unread: !read });

  return {
    boxes,
    messages,
    show,
    older,
    shown: () => open?.mailbox,
    /** Whether something is on its way. */
    pending: () => edits.filter(({ position }) => position === undefined).length,
    mark: (key, message, read) => edit('mark', { message: key, read }, { ...of(message), read }),
    move: (key, message, to) => edit('move', { message: key, to }, { ...of(message), to }),
    remove: (key, message) => edit('delete', { message: key }, { ...of(message), deleted: true }),
    deliver: (message) => command(client, 'deliver', message),
    createMailbox: (name) => command(client, 'create-mailbox', { name }),
    renameMailbox: (mailbox, name) => command(client, 'rename-mailbox', { mailbox, name }),
    deleteMailbox: (mailbox) => command(client, 'delete-mailbox', { mailbox }),
  };
};
