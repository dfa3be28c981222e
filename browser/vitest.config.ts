/** Unit tests, and tests on real sockets in Node; the browser's are in `e2e/`. */
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: { include: ['test/**/*.test.ts'], testTimeout: 15_000, restoreMocks: true },
});
