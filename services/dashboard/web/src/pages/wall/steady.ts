import { useEffect, useState } from "react";
import { thumbnailUrl, type ThumbnailSide } from "../../api/client";
import type { Inspection } from "../../api/types";

/**
 * The newest part whose picture has arrived. Verdict and picture thus always belong together, nothing flickers, and
 * however fast parts come, one picture is loaded to its end before the next is begun.
 */
export function useSteadyPart(newest: Inspection | undefined, side: ThumbnailSide): Inspection | undefined {
  const [shown, setShown] = useState(newest);
  const [loading, setLoading] = useState<Inspection | null>(null);
  if (newest && newest !== shown && loading === null) {
    // A verdict that supersedes another on the same picture needs no new picture.
    if (newest.frame_id === shown?.frame_id || !shown) setShown(newest);
    else setLoading(newest);
  }
  useEffect(() => {
    if (!loading) return;
    let live = true;
    const done = () => {
      if (!live) return;
      setShown(loading);
      setLoading(null);
    };
    const image = new Image();
    image.src = thumbnailUrl(loading.frame_id, side);
    // A picture that does not come is shown as missing rather than hiding the verdict.
    image.decode().then(done, done);
    const timer = setTimeout(done, 3_000);
    return () => {
      live = false;
      clearTimeout(timer);
    };
  }, [loading, side]);
  return newest ? shown : undefined;
}
