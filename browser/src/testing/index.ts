/**
 * `tidewire/testing`: a server without a network, and a spy on a real socket.
 */
export { createFakeServer, type FakeServer } from './fake_server.js';
export type { FakeConsumer } from './consumers.js';
export { createFakeLog, type CommandHandler, type FakeLog, type FakeSession } from './log.js';
export type { FakeDocuments, FakeProjection, Project } from './projections.js';
export { Refusal } from './refusal.js';
export { spyOn, type Seen } from './spy.js';
