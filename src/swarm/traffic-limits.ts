/**
 * What this peer may put on its owner's line. Can be changed at any time; what is under way is finished.
 */
export interface TrafficLimits {
  /** All that is sent; Infinity for no limit. */
  maxUploadBytesPerSecond: number
  /**
   * Of that, what goes to peers beyond the local network of images that this peer neither publishes nor replicates: a courtesy of
   * whoever runs a machine.
   */
  maxCourtesyBytesPerSecond: number
  /** All that is fetched, also for a guest that waits. */
  maxDownloadBytesPerSecond: number
  /** Nothing is fetched ahead of time except what a guest reads on to, and nobody beyond the local network is served. */
  quiet: boolean
}

export const UNLIMITED_TRAFFIC: TrafficLimits = {
  maxUploadBytesPerSecond: Number.POSITIVE_INFINITY,
  maxCourtesyBytesPerSecond: Number.POSITIVE_INFINITY,
  maxDownloadBytesPerSecond: Number.POSITIVE_INFINITY,
  quiet: false
}
