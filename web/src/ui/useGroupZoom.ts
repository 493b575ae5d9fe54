/** The zoom of charts that share one and do not keep it in the address. */
import { useCallback, useSyncExternalStore } from "react";
import type { Stretch } from "./stretch";

class Zooms {
  private readonly stretches = new Map<string, Stretch>();
  private readonly listeners = new Set<() => void>();

  get(group: string): Stretch | null {
    return this.stretches.get(group) ?? null;
  }

  set(group: string, stretch: Stretch | null): void {
    if (stretch) this.stretches.set(group, stretch);
    else this.stretches.delete(group);
    for (const tell of this.listeners) tell();
  }

  readonly subscribe = (tell: () => void): (() => void) => {
    this.listeners.add(tell);
    return () => this.listeners.delete(tell);
  };
}

const zooms = new Zooms();

export function useGroupZoom(group: string): [Stretch | null, (stretch: Stretch | null) => void] {
  const stretch = useSyncExternalStore(zooms.subscribe, () => zooms.get(group));
  const zoom = useCallback((wanted: Stretch | null) => zooms.set(group, wanted), [group]);
  return [stretch, zoom];
}
