/**
 * Fails when the committed demo bundle is not what its sources make.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const committed = join(root, '../server/assets/demo');
const fresh = mkdtempSync(join(tmpdir(), 'tidewire-bundle-'));
try {
  const built = spawnSync('npm', ['run', '--silent', 'bundle'], {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, TIDEWIRE_BUNDLE_DIR: fresh },
  });
  if (built.status !== 0) throw new Error('the bundle does not build');
  const names = [...new Set([...readdirSync(committed), ...readdirSync(fresh)])].sort();
  const read = (folder, name) => (readdirSync(folder).includes(name) ? readFileSync(join(folder, name)) : undefined);
  const stale = names.filter((name) => {
    const [old, now] = [read(committed, name), read(fresh, name)];
    return !old || !now || !old.equals(now);
  });
  if (stale.length) {
    console.error(`server/assets/demo is stale (${stale.join(', ')}); run \`npm run bundle\` in browser/ and commit it`);
    process.exitCode = 1;
  } else console.log(`server/assets/demo is up to date (${names.length} files)`);
} finally {
  rmSync(fresh, { recursive: true });
}
