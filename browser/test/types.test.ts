/** What the types promise, checked by the compiler (`npm run typecheck`). */
import { expectTypeOf, test } from 'vitest';
import { WebSocket as NodeWebSocket } from 'ws';
import { type Client, type EventOf, type Json, type RecordedEvent, stream, type Subscription, type WebSocketConstructor, events } from '../src/index.js';
import { createSocket } from '../src/socket.js';

type Orders = { OrderPaid: { amount: number }; OrderShipped: { carrier: string } };

test('an event map makes a union that is told apart by its type', () => {
  const amount = (event: EventOf<Orders>): number => {
    if (event.type === 'OrderPaid') return event.data.amount;
    expectTypeOf(event.data).toEqualTypeOf<{ carrier: string }>();
    return 0;
  };
  expectTypeOf(amount).returns.toEqualTypeOf<number>();
});

test('the platform and the package ws both fit as WebSocket classes', () => {
  expectTypeOf<typeof WebSocket>().toExtend<WebSocketConstructor>();
  expectTypeOf<typeof NodeWebSocket>().toExtend<WebSocketConstructor>();
});

test('events is an iterable without a callback and a subscription with one', () => {
  const iterable = (client: Client) => events<Orders>(client, { all: true });
  const called = (client: Client) => events<Orders>(client, { all: true }, { onEvent() {} });
  expectTypeOf(iterable).returns.toEqualTypeOf<AsyncGenerator<EventOf<Orders>, void, undefined>>();
  expectTypeOf(called).returns.toEqualTypeOf<Subscription>();
});

test('without a map data is JSON, and types are checked against a map', () => {
  const plain = (client: Client) => stream(client, 'a', { onEvent: (event) => void expectTypeOf(event).toEqualTypeOf<RecordedEvent<string, Json>>() });
  // @ts-expect-error OrderLost is not in the map
  const wrong = (client: Client) => stream<Orders>(client, 'a', { types: ['OrderLost'], onEvent() {} });
  expectTypeOf(plain).returns.toEqualTypeOf<Subscription>();
  expectTypeOf(wrong).returns.toEqualTypeOf<Subscription>();
});

test('a heartbeat of a plain socket needs a message to send', () => {
  // @ts-expect-error message is missing
  const wrong = () => createSocket({ url: '', heartbeat: { interval: 1 } });
  expectTypeOf(wrong).toBeFunction();
});
