/** A Chromium with a profile of its own, which can be killed as a crash would and started again on the same profile. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { chromium, type Browser, type Page } from 'playwright-core';
import { ARGUMENTS } from './chromium.js';
import { required } from './program.js';

export interface Profile {
  /** Starts the browser and opens `url`. */
  open(url: string): Promise<Page>;
  /** SIGKILL to the browser and all its processes. */
  kill(): Promise<void>;
  /** Ends it and removes the profile. */
  remove(): Promise<void>;
}

/** Makes a profile; nothing runs yet. */
export function profile(): Profile {
  const folder = mkdtempSync(join(tmpdir(), 'tidewire-profile-'));
  let running: ChildProcess | undefined;
  let browser: Browser | undefined;

  const kill = async (): Promise<void> => {
    const child = running;
    running = undefined;
    if (!child?.pid || child.exitCode !== null) return;
    const gone = once(child, 'exit');
    // It leads a group of its own, which holds its renderers too.
    process.kill(-child.pid, 'SIGKILL');
    await gone;
    await browser?.close().catch(() => {});
    browser = undefined;
  };
  return {
    kill,
    async open(url) {
      const args = [...ARGUMENTS, '--headless=new', '--remote-debugging-port=0', `--user-data-dir=${folder}`, 'about:blank'];
      const child = spawn(required('TIDEWIRE_CHROMIUM'), args, { detached: true, stdio: ['ignore', 'ignore', 'pipe'] });
      running = child;
      let address: string | undefined;
      for await (const line of createInterface({ input: child.stderr })) {
        address = /^DevTools listening on (\S+)/.exec(line)?.[1];
        if (address) break;
      }
      if (!address) throw new Error('Chromium did not come up');
      child.stderr.resume();
      browser = await chromium.connectOverCDP(address);
      const page = await browser.contexts()[0]!.newPage();
      await page.goto(url);
      return page;
    },
    async remove() {
      await kill();
      rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}
