import { useEffect, useState } from "react";

const CHART_WIDTH = 350;

/** How many charts fit beside each other in an element, and where to put its reference. */
export function useColumns(): [(element: HTMLElement | null) => void, number] {
  const [element, setElement] = useState<HTMLElement | null>(null);
  const [numColumns, setNumColumns] = useState(3);
  useEffect(() => {
    if (!element) return;
    const observer = new ResizeObserver(([entry]) => {
      if (entry) setNumColumns(Math.max(1, Math.floor(entry.contentRect.width / CHART_WIDTH)));
    });
    observer.observe(element);
    return () => observer.disconnect();
  }, [element]);
  return [setElement, numColumns];
}
