import { Type } from 'typebox';
import type { AdminRoute, Health } from './admin-route.ts';

const Ready = Type.Object({
  ready: Type.Boolean(),
  reasons: Type.Array(Type.String({ description: 'What is missing, in stable words.' })),
});

/** Alive and ready. Open to whoever reaches the listener: they tell nothing but that. */
export function healthRoutes(health: () => Promise<Health>): AdminRoute[] {
  return [
    {
      method: 'GET',
      path: '/healthz',
      summary: 'Whether the process is alive.',
      open: true,
      answer: Type.Object({ alive: Type.Literal(true) }),
      handle: async () => ({ alive: true }),
    },
    {
      method: 'GET',
      path: '/readyz',
      summary: 'Whether it can serve, and why not: status 503 then.',
      open: true,
      answer: Ready,
      handle: async (_, reply) => {
        const { ready, reasons } = await health();
        reply.code(ready ? 200 : 503);
        return { ready, reasons };
      },
    },
  ];
}
