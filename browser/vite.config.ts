/**
 * Bundles the demo page into `server/assets/demo/`, which is committed and which the program serves.
 * File names carry no hash, so that the program can name them.
 */
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vite';

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

export default defineConfig({
  root: here('demo'),
  base: './',
  build: {
    outDir: process.env['TIDEWIRE_BUNDLE_DIR'] ?? here('../server/assets/demo'),
    emptyOutDir: true,
    target: 'es2022',
    modulePreload: false,
    rollupOptions: { output: { entryFileNames: 'board.js', assetFileNames: 'board[extname]' } },
  },
});
