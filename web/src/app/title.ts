import { useEffect } from "react";

const NAME = "Finery";

/** What the browser's tab says while a page is shown. */
export function useTitle(text: string): void {
  useEffect(() => {
    document.title = text ? `${text} - ${NAME}` : NAME;
    return () => {
      document.title = NAME;
    };
  }, [text]);
}
