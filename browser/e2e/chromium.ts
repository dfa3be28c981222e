/** The browser under test: the Chromium that the test runner names, kept from doing anything of its own. */
import { chromium, type Browser } from 'playwright-core';
import { required } from './program.js';

/** What keeps it from doing anything of its own. */
export const ARGUMENTS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync',
];

/** Starts it. */
export const chromiumBrowser = (): Promise<Browser> =>
  chromium.launch({ executablePath: required('TIDEWIRE_CHROMIUM'), args: ARGUMENTS });
