import { createRoot } from "react-dom/client";
import { App } from "./app/App";
import "./app/styles.css";

const RELOADED = "finery.reloaded";
const NOT_AGAIN_MS = 10_000;

// A page that was open while the server got a new build asks for sections that are no more: load the new build.
window.addEventListener("vite:preloadError", (event) => {
  const before = Number(window.sessionStorage.getItem(RELOADED) ?? 0);
  if (Date.now() - before < NOT_AGAIN_MS) return;
  event.preventDefault();
  window.sessionStorage.setItem(RELOADED, String(Date.now()));
  window.location.reload();
});

const root = document.getElementById("root");
if (root) createRoot(root).render(<App />);
