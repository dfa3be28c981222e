/** Builds the package: ES modules and their types, one file an entry point. */
import { defineConfig } from 'tsdown';

export default defineConfig({
  entry: { index: 'src/index.ts', socket: 'src/socket.ts', cursor: 'src/cursor.ts', testing: 'src/testing/index.ts' },
  format: 'esm',
  platform: 'neutral',
  target: 'es2022',
  dts: true,
  sourcemap: true,
  fixedExtension: false,
  // Numbers with a name cost no bytes.
  inputOptions: { optimization: { inlineConst: true } },
});
