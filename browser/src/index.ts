/**
 * `tidewire`: your event log, in the browser, from exactly where you left off.
 *
 * Functions over a client, so that a bundle holds only what is used.
 */
export { append, type AppendOptions } from './append.js';
export type { ReconnectOptions } from './backoff.js';
export { createClient, type Client, type ClientOptions, type TokenReason } from './client.js';
export type { ClosedError, ConnectionState, WebSocketConstructor, WebSocketLike } from './connection.js';
export { consume, type ConsumeOptions, type Consumption, type ConsumptionState } from './consume.js';
export type { Cursor, Keeper, Saved } from './cursor_types.js';
export { documents, pages, type DocumentsOptions, type DocumentsPage } from './documents.js';
export type { Edited } from './edits.js';
export { erasable } from './erasable.js';
export { TidewireError } from './error.js';
export { events, type IterateOptions } from './events.js';
export type { HeartbeatOptions } from './liveness.js';
export type { QueryPhase, QueryState } from './picture.js';
export { projection, type LiveQuery, type ProjectionOptions } from './projection.js';
export { quality, type Quality } from './quality.js';
export type { QueueOptions } from './queue.js';
export { command, send, type CommandMap, type Result, type Send, type SendOptions } from './send.js';
export { statistics, type Measurable, type Statistics } from './statistics.js';
export type { Observable, Stop } from './store.js';
export { stream, type EventMap, type EventOf, type StreamOptions, type Subscription } from './stream.js';
export type { Phase, Reached, SubscriptionState } from './subscription.js';
export { summary, type SummaryOptions } from './summary.js';
export { uuidv7 } from './uuid.js';
export { park, retry, skip, stop, type Nack, type Verdict } from './verdict.js';
export { watch, type ConnectionEvent } from './watch.js';
export { collection, ConflictError, type Collection, type CollectionOptions, type CollectionState, type EditOptions, type Kept, type Patch } from './collection.js';
export type {
  After,
  Appended,
  Change,
  ClientMessage,
  Condition,
  Consumer,
  ErasedEvent,
  Expected,
  Filter,
  Json,
  Keyed,
  NewEvent,
  Order,
  ProjectionQuery,
  Query,
  QueryReset,
  RecordedEvent,
  ResetReason,
  Scalar,
  ServerMessage,
  Summarized,
  Target,
} from './wire.js';
