/**
 * The messages of the protocol, as far as this client speaks it (PROTOCOL.md is the authority).
 * Types only; nothing here is in the bundle.
 */

/** Anything that JSON can say. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };

/** What a subscription can follow. */
export type Target = { readonly stream: string } | { readonly category: string } | { readonly all: true };

/** What fields are compared with. */
export type Scalar = null | boolean | number | string;

/** A condition over the fields of documents; `sender.name` looks inside. The server evaluates it. */
export type Condition =
  | { readonly and: readonly Condition[] }
  | { readonly or: readonly Condition[] }
  | { readonly not: Condition }
  | { readonly eq: readonly [field: string, value: Scalar] }
  | { readonly in: readonly [field: string, values: readonly Scalar[]] }
  | { readonly lt: readonly [field: string, value: number | string] }
  | { readonly lte: readonly [field: string, value: number | string] }
  | { readonly gt: readonly [field: string, value: number | string] }
  | { readonly gte: readonly [field: string, value: number | string] }
  | { readonly prefix: readonly [field: string, text: string] }
  | { readonly exists: string };

/** An order of documents: by a field, or by the key. Default: ascending. */
export interface Order {
  readonly by?: string;
  readonly direction?: 'ascending' | 'descending';
}

/** Which documents of a projection. */
export interface Query {
  /** Only the document of this key. */
  readonly key?: string;
  /** Only documents that meet this. */
  readonly where?: Condition;
  readonly order?: Order;
  /** Only the first so many, in the order. */
  readonly limit?: number;
}

/** A query of one projection, as it is on the wire. */
export type ProjectionQuery = { readonly projection: string } & Query;

/** A document and its key. */
export interface Keyed<D = Json> {
  readonly key: string;
  readonly document: D;
}

/** What has become of one document; a patch is a JSON merge patch (RFC 7396). */
export type Change<D = Json> =
  | ({ readonly op: 'put' } & Keyed<D>)
  | { readonly op: 'patch'; readonly key: string; readonly patch: Json }
  | { readonly op: 'delete'; readonly key: string };

/** How events are gathered: one summary of so many milliseconds, or of so many events. */
export type Batch = { readonly summary_ms: number } | { readonly summary_events: number };

/** What happened in a stretch of the log. */
export interface Summarized {
  /** It counts what came after this … */
  readonly after: number;
  /** … up to here. */
  readonly position: number;
  /** How many events of each type. */
  readonly counts: { readonly [type: string]: number };
  readonly count: number;
  /** When the first and the last of them were recorded. */
  readonly from?: string;
  readonly to?: string;
}

/** Where a subscription begins: after a position, at the first retained event, or with what is new. */
export type After = number | 'start' | 'end';

/** A condition over events; the server evaluates it. */
export type Filter = { readonly [operator: string]: Json };

/** An event as the log holds it. */
export interface RecordedEvent<Type extends string = string, Data = Json> {
  /** Where it stands in the whole log, from 1. */
  readonly position: number;
  readonly stream: string;
  /** Where it stands in its stream, from 0. */
  readonly revision: number;
  readonly type: Type;
  readonly id: string;
  /** When the server recorded it. */
  readonly at: string;
  /** JSON data; `undefined` for a binary payload. */
  readonly data: Data;
  /** A binary payload, with its media type in `content_type`. */
  readonly data_base64?: string;
  readonly content_type?: string;
  readonly meta?: Json;
  /** From 2 on for a redelivery. */
  readonly attempt?: number;
  /** The payload was erased: `data` is null. */
  readonly erased?: true;
}

/** The event that tells, in the same stream, that the payload of another one was erased. */
export type ErasedEvent = RecordedEvent<'$erased', { readonly position: number; readonly revision: number; readonly id: string }>;

/** An event to append: JSON data, or other bytes in base64 with their media type. */
export type NewEvent<Type extends string = string, Data = Json> = {
  /** A UUID. Default: one of version 7 is made. */
  readonly id?: string;
  readonly type: Type;
  readonly meta?: Json;
} & ({ readonly data: Data } | { readonly data_base64: string; readonly content_type: string });

/** What a stream must look like for an append to happen: a number is its last revision. */
export type Expected = 'any' | 'no_stream' | 'exists' | number;

/** Where an append landed: the last of its events. */
export interface Appended {
  readonly position: number;
  readonly revision: number;
}

/** What a server accepts; each may be absent. */
export interface Limits {
  readonly [name: string]: number | undefined;
}

/** A durable consumer: one session's, or one that a group of sessions shares. */
export type Consumer = string | { readonly group: string };

export interface Subscribe {
  readonly sub: number;
  readonly to: Target | ProjectionQuery;
  readonly after?: After | undefined;
  /** Of a projection: what the documents are from that `after` is about. */
  readonly generation?: number | undefined;
  readonly batch?: Batch | undefined;
  readonly epoch?: string | undefined;
  readonly filter?: Filter | undefined;
  readonly ack?: 'none' | 'each' | undefined;
  readonly window?: number | undefined;
  readonly consumer?: Consumer | undefined;
}

export type ClientMessage =
  | {
      readonly type: 'hello';
      readonly protocol: 1;
      readonly token?: string | undefined;
      readonly client?: string | undefined;
      readonly epoch?: string | undefined;
      readonly subscriptions?: readonly Subscribe[];
    }
  | ({ readonly type: 'subscribe' } & Subscribe)
  | { readonly type: 'unsubscribe'; readonly sub: number }
  | {
      readonly type: 'append';
      readonly id: string;
      readonly stream: string;
      readonly expected?: Expected | undefined;
      readonly events: readonly NewEvent[];
    }
  | { readonly type: 'ack'; readonly sub: number; readonly position: number }
  | {
      readonly type: 'nack';
      readonly sub: number;
      readonly positions: readonly number[];
      readonly action: 'retry' | 'park' | 'skip' | 'stop';
      readonly delay_ms?: number | undefined;
      readonly reason?: string | undefined;
    }
  | { readonly type: 'command'; readonly id: string; readonly name: string; readonly data: unknown; readonly key?: string }
  | {
      readonly type: 'fetch';
      readonly id: string;
      readonly from: ProjectionQuery;
      readonly limit: number;
      readonly cursor?: string | undefined;
      readonly wait?: number | undefined;
      readonly timeout_ms?: number | undefined;
    }
  | { readonly type: 'ping'; readonly id: string };

export interface Welcome {
  readonly type: 'welcome';
  readonly session: string;
  readonly node: string;
  readonly epoch: string;
  readonly head: number;
  readonly heartbeat_ms: number;
  readonly limits?: Limits;
  readonly reconnect?: { readonly min_ms: number; readonly max_ms: number; readonly spread_ms: number };
}

export interface ErrorMessage {
  readonly type: 'error';
  readonly id?: string;
  readonly sub?: number;
  readonly code: string;
  readonly message: string;
  readonly retryable: boolean;
  readonly retry_after_ms?: number;
  readonly details?: Json;
}

/** What a server says about one subscription. */
export type SubscriptionMessage =
  | {
      readonly type: 'subscribed';
      readonly sub: number;
      readonly head: number;
      readonly after: number;
      readonly resumed: boolean;
      /** Of a projection, with why it is not resumed. */
      readonly generation?: number;
      readonly reset?: QueryReset;
    }
  | {
      readonly type: 'unsubscribed';
      readonly sub: number;
      readonly code?: string;
      readonly message?: string;
      readonly retryable?: boolean;
    }
  | { readonly type: 'reset'; readonly sub: number; readonly reason: ResetReason; readonly first: number }
  | { readonly type: 'events'; readonly sub: number; readonly events: readonly RecordedEvent[] }
  | { readonly type: 'retrying'; readonly sub: number; readonly positions: readonly number[] }
  | { readonly type: 'parked'; readonly sub: number; readonly positions: readonly number[]; readonly reason: string }
  | ({ readonly type: 'summary'; readonly sub: number } & Summarized)
  | {
      readonly type: 'state';
      readonly sub: number;
      readonly generation: number;
      readonly position: number;
      readonly documents: readonly Keyed[];
      readonly more: boolean;
      readonly reset?: QueryReset;
    }
  | { readonly type: 'changes'; readonly sub: number; readonly position: number; readonly changes: readonly Change[]; readonly more?: boolean }
  | { readonly type: 'live' | 'behind'; readonly sub: number; readonly position: number; readonly lag?: number };

/** Why a position is worth nothing any more: another log, events gone, or never reached. */
export type ResetReason = 'epoch' | 'truncated' | 'ahead';

/** Why documents are told anew: the projection was rebuilt, its changes are no longer kept, another log, never reached, or a window's have moved. */
export type QueryReset = 'generation' | 'truncated' | 'epoch' | 'ahead' | 'window';

export type ServerMessage =
  | Welcome
  | ErrorMessage
  | SubscriptionMessage
  | ({ readonly type: 'appended'; readonly id: string } & Appended)
  | { readonly type: 'result'; readonly id: string; readonly data: Json; readonly position?: number }
  | {
      readonly type: 'page';
      readonly id: string;
      readonly documents: readonly Keyed[];
      readonly more: boolean;
      readonly next?: string;
      readonly position: number;
      readonly generation: number;
    }
  | { readonly type: 'pong'; readonly id: string }
  | { readonly type: 'heartbeat'; readonly head: number; readonly positions: { readonly [sub: string]: number } }
  | {
      readonly type: 'goodbye';
      readonly code: number;
      readonly reason: string;
      readonly reconnect: boolean;
      readonly after_ms: number;
    };
