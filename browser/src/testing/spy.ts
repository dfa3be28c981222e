/**
 * A WebSocket class that writes down what passes through another one.
 */
import type { Payload, WebSocketConstructor } from '../connection.js';

/** One message, and its direction. */
export interface Seen {
  readonly direction: 'sent' | 'received';
  readonly data: Payload;
}

/** Wraps a WebSocket class; what passes is appended to `seen`, in order. */
export function spyOn(Real: WebSocketConstructor): { readonly WebSocket: WebSocketConstructor; readonly seen: readonly Seen[] } {
  const seen: Seen[] = [];
  class Spy extends Real {
    constructor(url: string, protocols?: string[]) {
      super(url, protocols);
      this.addEventListener('message', (event) => {
        seen.push({ direction: 'received', data: (event as MessageEvent<Payload>).data });
      });
    }
    override send(data: Payload): void {
      seen.push({ direction: 'sent', data });
      super.send(data);
    }
  }
  return { WebSocket: Spy, seen };
}
