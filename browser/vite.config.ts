/**
 * Bundles what the program serves into `server/assets/`, which is committed: the client in one file by
 * default, the demo's page in `--mode demo`. File names carry no hash, so that the program can name them.
 */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vite';

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
const assets = process.env['TIDEWIRE_BUNDLE_DIR'] ?? here('../server/assets');

export default defineConfig(({ mode }) => {
  const demo = mode === 'demo';
  return {
    root: here(demo ? 'demo' : 'src'),
    base: './',
    build: {
      outDir: demo ? join(assets, 'demo') : assets,
      // The client's file lies beside the demo's folder.
      emptyOutDir: demo,
      target: 'es2022',
      modulePreload: false,
      rollupOptions: demo
        ? { output: { entryFileNames: 'board.js', assetFileNames: 'board[extname]' } }
        : { input: here('src/standalone.ts'), preserveEntrySignatures: 'strict', output: { entryFileNames: 'tidewire.js' } },
    },
  };
});
