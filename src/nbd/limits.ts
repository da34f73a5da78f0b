/**
 * How much an NBD client may ask of this process: nothing here grows without one of these limits.
 *
 * They are defaults of the server's settings. What is beyond a limit waits where the protocol allows it (a connection
 * is simply not read for a while), and is refused or cut off where it does not.
 */
export interface NbdLimits {
  /** Connections in all, idle ones included; the next is closed at once. */
  maxConnections: number
  /** From the connection to the end of the negotiation. */
  negotiationTimeoutMs: number
  /** Options in one negotiation; a client needs about five. */
  maxOptions: number
  /** Data of one option: a name of 4,096 bytes and a few numbers. Longer data is skipped and refused with TOO_BIG. */
  maxOptionBytes: number
  /** Data that is worth skipping; a client that announces more is cut off. */
  maxSkippedOptionBytes: number
  /** Exports named in one answer to LIST. */
  maxListedExports: number
  /** Requests of one connection that wait for the disk. The kernel's client sends at most 128, QEMU's 16. */
  maxRequestsInFlight: number
  /** Bytes of one connection that are being read, written or waited for, and replies that were not taken yet. */
  maxQueuedBytes: number
  /** Buffers of all connections together, beyond what each is guaranteed; more than the largest payload. */
  maxBufferBytes: number
  /** Buffers of all servers of this process, those that are kept included, beyond what each connection is guaranteed. */
  maxAllBufferBytes: number
  /** What a connection may hold even when all buffers are lent. */
  guaranteedBufferBytes: number
  /** How long a client may make no progress with what it holds while another waits for a buffer. */
  stallTimeoutMs: number
  /** Buffers kept for the next request. */
  maxIdleBufferBytes: number
  /** Requests that one connection runs before the others have their turn. */
  maxRequestsPerTurn: number
  /** Bytes read for one connection before the others have their turn. */
  maxBytesPerTurn: number
  /** How long `stop` and `close` wait for requests in flight. */
  drainTimeoutMs: number
}

export const NBD_LIMITS: NbdLimits = {
  maxConnections: 256,
  negotiationTimeoutMs: 10_000,
  maxOptions: 64,
  maxOptionBytes: 8 * 1024,
  maxSkippedOptionBytes: 64 * 1024,
  maxListedExports: 1024,
  maxRequestsInFlight: 128,
  maxQueuedBytes: 8 * 1024 * 1024,
  maxBufferBytes: 192 * 1024 * 1024,
  maxAllBufferBytes: 256 * 1024 * 1024,
  guaranteedBufferBytes: 1024 * 1024,
  stallTimeoutMs: 10_000,
  maxIdleBufferBytes: 32 * 1024 * 1024,
  maxRequestsPerTurn: 256,
  maxBytesPerTurn: 1024 * 1024,
  drainTimeoutMs: 5_000
}
