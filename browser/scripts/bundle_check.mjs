/**
 * Fails when the committed bundles are not what their sources make.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const committed = join(root, '../server/assets');
const fresh = mkdtempSync(join(tmpdir(), 'tidewire-bundle-'));
const filesOf = (folder) =>
  readdirSync(folder, { recursive: true }).filter((name) => statSync(join(folder, name)).isFile());
try {
  const built = spawnSync('npm', ['run', '--silent', 'bundle'], {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, TIDEWIRE_BUNDLE_DIR: fresh },
  });
  if (built.status !== 0) throw new Error('the bundles do not build');
  const [old, now] = [filesOf(committed), filesOf(fresh)];
  const names = [...new Set([...old, ...now])].sort();
  const same = (name) =>
    old.includes(name) && now.includes(name) && readFileSync(join(committed, name)).equals(readFileSync(join(fresh, name)));
  const stale = names.filter((name) => !same(name));
  if (stale.length) {
    console.error(`server/assets is stale (${stale.join(', ')}); run \`npm run bundle\` in browser/ and commit it`);
    process.exitCode = 1;
  } else console.log(`server/assets is up to date (${names.length} files)`);
} finally {
  rmSync(fresh, { recursive: true });
}
