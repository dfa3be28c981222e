/** What the page looks like for what there is to show. Knows nothing of the server. */

/** An element with properties and children. */
export const element = (tag, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
};

/**
 * Makes the children of `list` those of `entries`, each [key, fingerprint, make]: what is there already stays, what
 * looks otherwise is made anew.
 */
export const reconcile = (list, entries) => {
  const present = new Map([...list.children].map((child) => [child.dataset.key, child]));
  entries.forEach(([key, looks, make], index) => {
    let child = present.get(key);
    present.delete(key);
    if (!child || child.dataset.looks !== looks) {
      const made = make();
      Object.assign(made.dataset, { key, looks });
      child?.replaceWith(made);
      child = made;
    }
    if (list.children[index] !== child) list.insertBefore(child, list.children[index] ?? null);
  });
  for (const child of present.values()) child.remove();
};

const DAY_MS = 86_400_000;

/** A moment as a list shows it: the time today, the weekday this week, else the date. */
export const moment = (at, now = Date.now()) => {
  const format = (options) => new Date(at).toLocaleString([], options);
  if (new Date(at).toDateString() === new Date(now).toDateString()) return format({ hour: '2-digit', minute: '2-digit' });
  if (now - at < 6 * DAY_MS) return format({ weekday: 'short' });
  return format({ day: 'numeric', month: 'short' });
};

/** A mailbox in the list of mailboxes. */
export const mailboxEntry = ({ name, total, unread }, current, onOpen) =>
  element(
    'li',
    {},
    element(
      'button',
      { type: 'button', className: 'mailbox', ariaCurrent: current ? 'true' : 'false', onclick: onOpen },
      element('span', { className: 'name', textContent: name }),
      element('span', { className: 'total', textContent: String(total), title: `${total} messages` }),
      element('span', { className: 'unread', textContent: unread ? String(unread) : '', title: `${unread} unread` }),
    ),
  );

/** A message in the list of messages. */
export const messageEntry = ({ from, subject, preview, received_at, read }, current, onOpen) =>
  element(
    'li',
    {},
    element(
      'button',
      { type: 'button', className: read ? 'message' : 'message new', ariaCurrent: current ? 'true' : 'false', onclick: onOpen },
      element('span', { className: 'from', textContent: from }),
      element('time', { textContent: moment(received_at), dateTime: new Date(received_at).toISOString() }),
      element('span', { className: 'subject', textContent: subject }),
      element('span', { className: 'preview', textContent: preview }),
    ),
  );

/** A message that is read, with what can be done with it. */
export const reader = (message, body, boxes, { onClose, onMark, onMove, onDelete }) => {
  const to = element(
    'select',
    { ariaLabel: 'Move to', onchange: () => to.value && onMove(to.value) },
    element('option', { value: '', textContent: 'Move…' }),
    ...boxes
      .filter(([key]) => key !== message.mailbox)
      .map(([key, { name }]) => element('option', { value: key, textContent: name })),
  );
  return [
    element(
      'div',
      { className: 'bar' },
      element('button', { type: 'button', className: 'back', textContent: '‹ Back', onclick: onClose }),
      element('button', { type: 'button', className: 'mark', textContent: message.read ? 'Mark unread' : 'Mark read', onclick: onMark }),
      to,
      element('button', { type: 'button', className: 'delete', textContent: 'Delete', onclick: onDelete }),
    ),
    element('h2', { textContent: message.subject }),
    element(
      'p',
      { className: 'by' },
      element('strong', { textContent: message.from }),
      ` · ${new Date(message.received_at).toLocaleString([], { dateStyle: 'medium', timeStyle: 'short' })}`,
    ),
    element('div', { className: 'body', textContent: body ?? message.preview }),
  ];
};
