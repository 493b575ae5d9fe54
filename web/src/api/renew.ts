import type { QueryClient, QueryKey } from "@tanstack/react-query";

/**
 * Reads again what a change has made old. A first reading that is still under way is dropped: it may have been answered
 * before the change, and TanStack Query would take it for the new one.
 */
export async function renew(queries: QueryClient, ...keys: QueryKey[]): Promise<void> {
  await Promise.all(
    keys.map(async (queryKey) => {
      await queries.cancelQueries({ queryKey });
      await queries.invalidateQueries({ queryKey });
    }),
  );
}
