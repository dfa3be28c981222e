/** What the types promise, checked by the compiler (`npm run typecheck`). */
import { expectTypeOf, test } from 'vitest';
import { WebSocket as NodeWebSocket } from 'ws';
import {
  consume, erasable, events, park, retry, send, stream,
  type Client, type Consumption, type ErasedEvent, type EventOf, type Json, type RecordedEvent, type Send, type Subscription, type WebSocketConstructor,
} from '../src/index.js';
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

test('a consumer has its own events and verdicts, and takes no other', () => {
  const run = (client: Client) =>
    consume<Orders>(client, { category: 'order' }, {
      consumer: { group: 'crew' },
      types: ['OrderPaid'],
      onEvent: async (event) => {
        if (event.type === 'OrderPaid' && event.data.amount < 0) return park('negative');
        return event.attempt === 1 ? retry(5) : undefined;
      },
    });
  expectTypeOf(run).returns.toEqualTypeOf<Consumption>();
  // @ts-expect-error a handler says nothing, or one of the verdicts
  const wrong = (client: Client) => consume(client, 'order-1', { onEvent: () => 'done' });
  // @ts-expect-error OrderLost is not in the map
  const lost = (client: Client) => consume<Orders>(client, 'order-1', { types: ['OrderLost'], onEvent() {} });
  expectTypeOf(wrong).returns.toEqualTypeOf<Consumption>();
  expectTypeOf(lost).returns.toEqualTypeOf<Consumption>();
});

test('erasable keeps the events typed, and tells of erasures', () => {
  const run = (client: Client) =>
    stream<Orders>(
      client,
      'order-1',
      erasable({
        types: ['OrderPaid'],
        onEvent: (event) => void expectTypeOf(event).toEqualTypeOf<EventOf<Orders>>(),
        onErased: (event) => void expectTypeOf(event).toEqualTypeOf<ErasedEvent>(),
      }),
    );
  expectTypeOf(run).returns.toEqualTypeOf<Subscription>();
});

test('commands that are known are checked, others give what one says', () => {
  type Shop = { placeOrder: { input: { cart: number }; output: { orderId: string } }; wipe: { input: null; output: null } };
  const shop: Send<Shop> = send;
  const order = (client: Client) => shop(client, 'placeOrder', { cart: 7 }, { key: 'cart-7', timeout: 5_000 });
  expectTypeOf(order).returns.resolves.toEqualTypeOf<{ orderId: string }>();
  // @ts-expect-error a cart is a number
  const wrong = (client: Client) => shop(client, 'placeOrder', { cart: '7' });
  // @ts-expect-error no such command
  const unknown = (client: Client) => shop(client, 'dance', null);
  const plain = (client: Client) => send<{ orderId: string }>(client, 'placeOrder', { cart: 7 });
  expectTypeOf(plain).returns.resolves.toEqualTypeOf<{ orderId: string }>();
  expectTypeOf(wrong).toBeFunction();
  expectTypeOf(unknown).toBeFunction();
});
