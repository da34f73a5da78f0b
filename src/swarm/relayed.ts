/**
 * Connections through a relay: which of them carry blocks.
 *
 * A relay says at the start how many bytes it passes on. Most pass enough to say hello and to turn the connection round, and so no
 * block is asked for, or given, through them; one whose owner set it so passes more.
 */
import type { Connection } from '@libp2p/interface'

/** Less than this is for turning round alone: with the greeting it would bring a few blocks, and then break off. */
export const MIN_RELAYED_BYTES = 1024 * 1024

/** Whether blocks may be asked for over this connection: it is direct, or its relay lets enough pass. */
export function carriesBlocks({ limits }: Pick<Connection, 'limits'>): boolean {
  return limits === undefined || limits.bytes === undefined || limits.bytes >= MIN_RELAYED_BYTES
}
