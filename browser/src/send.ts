/**
 * `send`: a command to the application behind the server, which takes effect once.
 */
import type { Client } from './client.js';
import { ask, type Answer } from './requests.js';
import { uuidv7 } from './uuid.js';

/** How to send a command. */
export interface SendOptions {
  /** Names this command, in up to 200 bytes: whoever sends it again under the same key gets the first answer. Default: made here. */
  readonly key?: string;
  /** Milliseconds to wait for the answer; then it rejects with `timeout`, and may have taken effect: the same key asks again. Default: no limit. */
  readonly timeout?: number;
}

/** What commands take and give, by name. */
export type CommandMap = { readonly [name: string]: { readonly input: unknown; readonly output: unknown } };

/** `send`, for commands that are known: `const place: Send<Shop> = send`. */
export type Send<C extends CommandMap> = <N extends keyof C & string>(
  client: Client,
  name: N,
  input: C[N]['input'],
  options?: SendOptions,
) => Promise<C[N]['output']>;

/** What a command came to. */
export interface Result<Output> {
  readonly data: Output;
  /** Where the last event stands that the command recorded, if it recorded any: `documents(client, …, { wait: position })` has seen it. */
  readonly position?: number;
}

/**
 * Sends a command and waits for its result.
 *
 * It waits in the client's outbox, together with what is appended, and is sent again after a reconnect; its key
 * makes that one effect. Rejects with `queue_full`, `too_large`, `timeout` and `unanswered`, with the server's
 * code (`unknown_command`, `command_failed` with the application's details, `key_reused`, …), and with the
 * connection's error once that has failed.
 */
export const command = async <Output>(client: Client, name: string, input: unknown, options: SendOptions = {}): Promise<Result<Output>> => {
  const { key = uuidv7(), timeout } = options;
  const { data, position } = (await ask(client, undefined, { type: 'command', name, data: input ?? null, key }, timeout)) as Extract<Answer, { type: 'result' }>;
  return { data: data as Output, ...(position !== undefined && { position }) };
};

/** {@link command}, for those who want nothing but the answer. */
export const send = async <Output>(client: Client, name: string, input: unknown, options?: SendOptions): Promise<Output> =>
  (await command<Output>(client, name, input, options)).data;
