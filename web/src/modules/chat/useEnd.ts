import { useEffect, useRef, type UIEvent } from "react";

const END_PIXELS = 24;

/**
 * Keeps the end of what grows in view, until the reader scrolls up.
 *
 * @param count of what was said; with one more, the end is in view again
 */
export function useEnd(count: number) {
  const box = useRef<HTMLDivElement>(null);
  const content = useRef<HTMLDivElement>(null);
  const isFollowing = useRef(true);
  const top = useRef(0);
  useEffect(() => {
    isFollowing.current = true;
    if (box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [count]);
  useEffect(() => {
    const seen = content.current;
    if (!seen) return;
    const observer = new ResizeObserver(() => {
      if (isFollowing.current && box.current) box.current.scrollTop = box.current.scrollHeight;
    });
    observer.observe(seen);
    return () => observer.disconnect();
  }, []);
  const follow = (event: UIEvent<HTMLDivElement>) => {
    const { scrollTop, scrollHeight, clientHeight } = event.currentTarget;
    if (scrollHeight - scrollTop - clientHeight < END_PIXELS) isFollowing.current = true;
    else if (scrollTop < top.current) isFollowing.current = false;
    top.current = scrollTop;
  };
  return { box, content, follow };
}
