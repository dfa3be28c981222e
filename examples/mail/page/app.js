/** Joins the mail (`mail.js`) and what the page looks like (`view.js`). */
import { createClient } from '/tidewire.js';
import { createMail } from '/mail.js';
import { mailboxEntry, messageEntry, reader, reconcile } from '/view.js';

const $ = (id) => document.getElementById(id);
const client = createClient({ url: '/log/ws', name: 'mail' });

/** A mailbox that was just made, and that is to be shown once it is in the list. */
let made;
/** The message that is read: its key, and its text once that was fetched. */
let reading;
/** The message as it was shown last; it may leave the list while it is read. */
let seen;

let painting = false;
/** Paints once for all that changes together. */
const changed = () => {
  if (painting) return;
  painting = true;
  queueMicrotask(() => {
    painting = false;
    paint();
  });
};
const mail = createMail(client, changed);

const WORDS = {
  bad_text: 'That text is empty or too long.',
  mailbox_not_empty: 'The mailbox is not empty.',
  no_such_mailbox: 'That mailbox is gone.',
  no_such_message: 'That message is gone.',
};
let forget;
const notify = (text) => {
  $('notice').textContent = text;
  $('notice').hidden = false;
  clearTimeout(forget);
  forget = setTimeout(() => ($('notice').hidden = true), 6000);
};
/** Says why something was not done. */
const attempt = (promise) =>
  promise.catch((error) => notify(WORDS[error.details?.code] ?? `That did not work: ${error.message}`));

const close = () => {
  reading = undefined;
  changed();
};

const read = async (key, message) => {
  reading = { key };
  seen = message;
  changed();
  if (!message.read) attempt(mail.mark(key, message, true));
  // The text is not in the list's documents; the log has it.
  const answer = await fetch(`/log/streams/message-${key}?limit=1`);
  const { events } = await answer.json();
  if (reading?.key !== key) return;
  reading.body = events?.[0]?.data?.body;
  changed();
};

const paintStatus = () => {
  const { status } = client.getSnapshot();
  const waiting = mail.pending();
  $('status').dataset.state = status;
  $('status').textContent = status === 'connected' ? 'live' : waiting ? `${status} · ${waiting} waiting` : status;
};

const paintReader = (boxes, list) => {
  const found = reading && list.find(([key]) => key === reading.key)?.[1];
  if (reading && !found && seen) close();
  const message = found ?? (reading ? seen : undefined);
  document.body.classList.toggle('reading', Boolean(reading));
  $('reader').hidden = !reading;
  const looks = reading ? JSON.stringify([reading, message, boxes.map(([key, { name }]) => [key, name])]) : '';
  if ($('reader').dataset.looks === looks) return;
  $('reader').dataset.looks = looks;
  if (!reading) return $('reader').replaceChildren();
  seen = message;
  const { key } = reading;
  $('reader').replaceChildren(
    ...reader(message, reading.body, boxes, {
      onClose: close,
      onMark: () => {
        const wish = !message.read;
        if (!wish) close();
        attempt(mail.mark(key, message, wish));
      },
      onMove: (to) => {
        close();
        attempt(mail.move(key, message, to));
      },
      onDelete: () => {
        close();
        attempt(mail.remove(key, message));
      },
    }),
  );
};

const paint = () => {
  const boxes = mail.boxes();
  if (boxes.some(([key]) => key === made)) {
    location.hash = made;
    made = undefined;
    return mail.show(location.hash.slice(1));
  }
  // The first time, and when the mailbox that is shown was deleted.
  if (boxes.length && !boxes.some(([key]) => key === mail.shown())) {
    const [first] = boxes.find(([key]) => key === location.hash.slice(1)) ?? boxes.find(([key]) => key === 'inbox') ?? boxes[0];
    return mail.show(first);
  }
  const shown = mail.shown();
  const present = boxes.find(([key]) => key === shown)?.[1];
  const { list, more, loading } = mail.messages();
  paintStatus();
  reconcile(
    $('mailboxes'),
    boxes.map(([key, mailbox]) => [
      key,
      JSON.stringify([mailbox, key === shown]),
      () =>
        mailboxEntry(mailbox, key === shown, () => {
          close();
          location.hash = key;
          mail.show(key);
        }),
    ]),
  );
  $('title').textContent = present?.name ?? '';
  document.title = present?.unread ? `(${present.unread}) Mail` : 'Mail';
  $('remove').disabled = !present || present.total > 0;
  reconcile(
    $('messages'),
    list.map(([key, message]) => {
      const current = reading?.key === key;
      return [key, JSON.stringify([message, current]), () => messageEntry(message, current, () => attempt(read(key, message)))];
    }),
  );
  $('messages').setAttribute('aria-busy', String(loading));
  $('older').hidden = !more;
  $('older').disabled = loading;
  $('end').textContent = more || loading ? '' : list.length ? `${list.length} messages` : 'Nothing here.';
  paintReader(boxes, list);
};

$('older').onclick = () => attempt(mail.older());
$('new-mailbox').onsubmit = (event) => {
  event.preventDefault();
  const { name } = event.target.elements;
  attempt(
    mail.createMailbox(name.value).then(({ data }) => {
      made = data.id;
      changed();
    }),
  );
  event.target.reset();
};
$('rename').onclick = () => {
  const name = prompt('The name of the mailbox', $('title').textContent);
  if (name) attempt(mail.renameMailbox(mail.shown(), name));
};
$('remove').onclick = () => attempt(mail.deleteMailbox(mail.shown()));
$('compose').onclick = () => {
  const { mailbox } = $('composer').querySelector('form').elements;
  mailbox.replaceChildren(...mail.boxes().map(([key, { name }]) => new Option(name, key, false, key === mail.shown())));
  $('composer').showModal();
};
$('discard').onclick = () => $('composer').close();
$('composer').querySelector('form').onsubmit = (event) => {
  const form = event.target;
  attempt(mail.deliver(Object.fromEntries(new FormData(form))));
  for (const name of ['subject', 'body']) form.elements[name].value = '';
};

client.subscribe(changed);
client.connect().catch(() => undefined);
