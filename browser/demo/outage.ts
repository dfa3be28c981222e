/**
 * A WebSocket class whose network can be cut: by closing the socket underneath the client, which is not
 * told and has to find out and recover as after any other loss.
 */

/** The class, and the switch. */
export interface Outage {
  readonly WebSocket: typeof WebSocket;
  /** Closes the open socket, and lets none open for `offlineMs`. */
  cut(offlineMs: number): void;
}

/** Makes a class of its own, so that nothing else on the page is touched. */
export const createOutage = (): Outage => {
  let current: WebSocket | undefined;
  let offlineUntil = 0;
  return {
    WebSocket: class extends WebSocket {
      constructor(url: string | URL, protocols?: string | string[]) {
        super(url, protocols);
        current = this;
        if (Date.now() < offlineUntil) this.close();
      }
    },
    cut(offlineMs) {
      offlineUntil = Date.now() + offlineMs;
      current?.close();
    },
  };
};
