/**
 * The messages of the protocol, as far as this client speaks it (PROTOCOL.md is the authority).
 * Types only; nothing here is in the bundle.
 */

/** Anything that JSON can say. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };

/** What a subscription can follow. */
export type Target = { readonly stream: string } | { readonly category: string } | { readonly all: true };

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
  readonly to: Target;
  readonly after?: After | undefined;
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
  | { readonly type: 'subscribed'; readonly sub: number; readonly head: number; readonly after: number; readonly resumed: boolean }
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
  | { readonly type: 'live' | 'behind'; readonly sub: number; readonly position: number; readonly lag?: number };

/** Why a position is worth nothing any more: another log, events gone, or never reached. */
export type ResetReason = 'epoch' | 'truncated' | 'ahead';

export type ServerMessage =
  | Welcome
  | ErrorMessage
  | SubscriptionMessage
  | ({ readonly type: 'appended'; readonly id: string } & Appended)
  | { readonly type: 'result'; readonly id: string; readonly data: Json; readonly position?: number }
  | { readonly type: 'pong'; readonly id: string }
  | { readonly type: 'heartbeat'; readonly head: number; readonly positions: { readonly [sub: string]: number } }
  | {
      readonly type: 'goodbye';
      readonly code: number;
      readonly reason: string;
      readonly reconnect: boolean;
      readonly after_ms: number;
    };
