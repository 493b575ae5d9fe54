import { Component, type ReactNode } from "react";
import { ErrorCard } from "../ui/ErrorCard";
import { reload } from "./parts";

interface Props {
  children: ReactNode;
}

/** A page that broke says so, instead of taking the whole window with it. */
export class ErrorBoundary extends Component<Props, { error: unknown }> {
  override state: { error: unknown } = { error: null };

  static getDerivedStateFromError(error: unknown) {
    return { error };
  }

  override render() {
    if (this.state.error === null) return this.props.children;
    return (
      <div className="page">
        <ErrorCard error={this.state.error} retry={() => void reload().catch(() => undefined)} />
      </div>
    );
  }
}
