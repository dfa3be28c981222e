/** The program under test: `tidewire demo` or `serve`, or one of the examples `embed` and `mail`, on one port and one file; started, killed and started again. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { vi } from 'vitest';

/** A path from the environment, which the test runner sets. */
export const required = (name: string): string => {
  const value = process.env[name];
  if (!value) throw new Error(`set ${name} to a path (cargo xtask test does)`);
  return value;
};

const freePort = async (): Promise<number> => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
};

export interface Program {
  readonly port: number;
  /** Starts it and waits until it answers. */
  start(): Promise<void>;
  /** Ends it as a crash would: SIGKILL. */
  kill(): Promise<void>;
  /** The newest position in its log, asked over HTTP. */
  head(): Promise<number>;
  /** Waits until its log is longer than `least`, and tells its head. */
  grownTo(least: number): Promise<number>;
  /** Ends it and removes its file. */
  remove(): Promise<void>;
}

/** A demo at `speed` with a file of its own; it does not run yet. */
export const demoAt = (speed: number): Promise<Program> => program('demo', '--speed', `${speed}`);

/** A verb of the program that serves, with a file of its own; it does not run yet. */
export const program = (...verb: readonly string[]): Promise<Program> =>
  runnable(required('TIDEWIRE_BIN'), (address, file) => [...verb, '--address', address, '--database', file], '');

/** The example that handles commands, built beside the program: its log is below `/log`. */
export const embed = (): Promise<Program> => runnable(join(dirname(required('TIDEWIRE_BIN')), 'embed'), (address, file) => [address, file], '/log');

/** The example with mailboxes and messages, built beside the program. */
export const mail = (): Promise<Program> => runnable(join(dirname(required('TIDEWIRE_BIN')), 'mail'), (address, file) => [address, file], '/log');

async function runnable(binary: string, argumentsFor: (address: string, file: string) => readonly string[], scope: string): Promise<Program> {
  const folder = mkdtempSync(join(tmpdir(), 'tidewire-e2e-'));
  const port = await freePort();
  let running: ChildProcess | undefined;
  let said = '';

  const kill = async (): Promise<void> => {
    const child = running;
    running = undefined;
    if (!child || child.exitCode !== null) return;
    const gone = once(child, 'exit');
    child.kill('SIGKILL');
    await gone;
  };

  const head = async (): Promise<number> => {
    const answer = await fetch(`http://127.0.0.1:${port}${scope}/events?limit=1`);
    return ((await answer.json()) as { head: number }).head;
  };

  return {
    port,
    kill,
    async start() {
      const child = spawn(binary, argumentsFor(`127.0.0.1:${port}`, join(folder, 'log.db')), { stdio: ['ignore', 'pipe', 'pipe'] });
      running = child;
      for (const output of [child.stdout, child.stderr]) output.on('data', (text) => (said += String(text)));
      const deadline = Date.now() + 30_000;
      for (;;) {
        const answer = await fetch(`http://127.0.0.1:${port}${scope}/healthz`).catch(() => undefined);
        if (answer?.ok) return;
        if (child.exitCode !== null || Date.now() > deadline) throw new Error(`the program did not come up:\n${said}`);
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    },
    head,
    grownTo: (least) =>
      vi.waitFor(
        async () => {
          const reached = await head();
          if (reached <= least) throw new Error(`the log is at ${reached}, not yet beyond ${least}`);
          return reached;
        },
        { interval: 50, timeout: 30_000 },
      ),
    async remove() {
      await kill();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
