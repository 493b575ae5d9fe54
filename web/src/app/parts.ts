/** Parts of the UI that are loaded when they are first opened. */
import { ApiError } from "../api/client";

/** A part that is under way. Where the server has got another build meanwhile, in which it is no more, that build is opened. */
export async function part<M>(loading: Promise<M>): Promise<M> {
  try {
    return await loading;
  } catch (error) {
    const page = await served();
    const build = document.querySelector<HTMLScriptElement>("script[type=module][src]")?.getAttribute("src") ?? "";
    if (page.includes(build)) throw error;
    window.location.reload();
    return new Promise(() => undefined);
  }
}

/** Loads the page anew, unless the server is away: the browser's own error page would take everything with it. */
export async function reload(): Promise<void> {
  await served();
  window.location.reload();
}

/** The text of index.html as the server has it now; a proxy's answer for a server that is away is none. */
async function served(): Promise<string> {
  const found = await fetch("/", { cache: "no-cache" }).catch(() => null);
  if (!found?.ok) throw new ApiError(0, "unreachable", "");
  return found.text();
}
