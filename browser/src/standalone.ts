/**
 * Everything in one file, for pages without a bundler: what the program serves as `/tidewire.js`.
 */
export * from './cursor.js';
export * from './index.js';
