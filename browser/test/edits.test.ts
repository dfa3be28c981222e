/** What is shown of a collection while edits are on their way, case by case. */
import { expect, test } from 'vitest';
import { unseen, withEdits, type Edit, type Operation } from '../src/edits.js';

type Doc = { readonly t: string; readonly $revision?: number };
const update = (t: string): Operation => ({ op: 'update', patch: { t } });
const insert = (t: string): Operation => ({ op: 'insert', document: { t } });
const remove: Operation = { op: 'delete' };
const edit = (operation: Operation, revision?: number, landed?: number): Edit => ({ key: 'k', operation, revision, ...(landed !== undefined && { landed: { position: 9, revision: landed } }) });
const doc = (t: string, $revision?: number): Doc => ({ t, ...($revision !== undefined && { $revision }) });

test.each<[string, Doc | undefined, readonly Edit[], Doc | undefined]>([
  ['an update', doc('a', 3), [edit(update('b'), 3)], doc('b', 3)],
  ['two, one upon the other', doc('a', 3), [edit(update('b'), 3), edit(update('c'), 4)], doc('c', 3)],
  ['an update that has come back before its answer', doc('b', 4), [edit(update('b'), 3)], doc('b', 4)],
  ['the second of two, of which the first has come back', doc('b', 4), [edit(update('b'), 3), edit(update('c'), 4)], doc('c', 4)],
  ['an update that others were faster than', doc('theirs', 5), [edit(update('mine'), 3)], doc('theirs', 5)],
  ['an update that has landed and not come back', doc('a', 3), [edit(update('b'), 3, 4)], doc('b', 4)],
  ['an update that has landed, and others upon it', doc('theirs', 5), [edit(update('b'), 3, 4)], doc('theirs', 5)],
  ['an update whatever the revision', doc('a', 3), [edit(update('b'))], doc('b', 3)],
  ['an update of nothing', undefined, [edit(update('b'))], undefined],
  ['an insertion', undefined, [edit(insert('a'))], doc('a')],
  ['an insertion that has landed', undefined, [edit(insert('a'), undefined, 0)], doc('a', 0)],
  ['an insertion of what is there', doc('theirs', 0), [edit(insert('mine'))], doc('theirs', 0)],
  ['an update upon an insertion', undefined, [edit(insert('a')), edit(update('b'))], doc('b')],
  ['a deletion', doc('a', 3), [edit(remove, 3)], undefined],
  ['a deletion that has landed', doc('a', 3), [edit(remove, 3, 4)], undefined],
  ['a deletion that has landed, and an insertion by others', doc('theirs', 5), [edit(remove, 3, 4)], doc('theirs', 5)],
  ['an insertion upon a deletion', doc('a', 3), [edit(remove, 3), edit(insert('b'))], doc('b')],
])('%s', (_, present, edits, shown) => {
  const documents = new Map(present && [['k', present]]);
  expect(withEdits(documents, edits, new Map()).get('k')).toEqual(shown);
  expect(documents.get('k')).toBe(present);
});

test('what comes out the same is the same', () => {
  const documents = new Map([['k', doc('a', 3)], ['l', doc('x', 1)]]);
  const first = withEdits(documents, [edit(update('b'), 3)], new Map());
  const second = withEdits(new Map(documents), [edit(update('b'), 3)], first);
  expect(second.get('k')).toBe(first.get('k'));
  expect(second.get('l')).toBe(documents.get('l'));
});

test('an edit is unseen until the documents have come to it', () => {
  const edits = [edit(update('a')), edit(update('b'), 1, 2)];
  expect([8, 9, undefined].map((position) => unseen(edits, position).length)).toEqual([2, 1, 2]);
});
