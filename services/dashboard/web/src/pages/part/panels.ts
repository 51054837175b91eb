import type { ComponentType } from "react";
import type { Part } from "../../api/types";
import { FactsPanel } from "./FactsPanel";
import { HistoryPanel } from "./HistoryPanel";
import { OutcomePanel } from "./OutcomePanel";
import { PlacePanel } from "./PlacePanel";
import { TimingsPanel } from "./TimingsPanel";
import { VerdictPanel } from "./VerdictPanel";
import type { Maps } from "./useMaps";
import { ViewsPanel } from "./ViewsPanel";
import { WhyPanel } from "./WhyPanel";

interface PanelEntry {
  id: string;
  /** Draws nothing when it has nothing to say of the part. */
  Panel: ComponentType<{ part: Part; maps: Maps }>;
}

/** What stands beside the picture, in this order. A new kind of knowledge about a part is one more entry. */
export const PANELS: PanelEntry[] = [
  { id: "verdict", Panel: VerdictPanel },
  { id: "why", Panel: WhyPanel },
  { id: "views", Panel: ViewsPanel },
  { id: "outcome", Panel: OutcomePanel },
  { id: "timings", Panel: TimingsPanel },
  { id: "history", Panel: HistoryPanel },
  { id: "facts", Panel: FactsPanel },
  { id: "place", Panel: PlacePanel },
];
