/**
 * What a client may ask of the parts of a disk (BLOCK_STATUS), as a table of contexts.
 *
 *   base:allocation   of the specification: bit 0 a hole, bit 1 reads as zeros
 *   rowan:local       0: here; 1: a read waits until it was fetched from the network
 *
 * A query is a namespace, a colon and a leaf. In LIST a namespace with its colon stands for all that is in it; in SET
 * it selects nothing. Names that do not exist here are no error (proto.md, "Metadata querying").
 */
import type { Extent } from '../disk/block-device.ts'
import { STATE } from './protocol.ts'

export interface MetaContext {
  /** What the client calls it in transmission. */
  id: number
  name: string
  flagsOf(extent: Extent): number
}

/** `rowan:local` of what is still to be fetched. */
const STATE_REMOTE = 1

export const META_CONTEXTS: readonly MetaContext[] = [
  {
    id: 1,
    name: 'base:allocation',
    flagsOf: ({ isHole, isZero }) => (isHole ? STATE.HOLE : 0) | (isZero ? STATE.ZERO : 0)
  },
  { id: 2, name: 'rowan:local', flagsOf: ({ isLocal }) => (isLocal ? 0 : STATE_REMOTE) }
]

/**
 * The contexts that queries name, each once; undefined where one of them is no query at all.
 *
 * @param wildcards - whether a namespace alone stands for all that is in it
 */
export function matchContexts(queries: string[], wildcards: boolean): MetaContext[] | undefined {
  if (queries.some(query => query.indexOf(':') < 1)) return undefined
  return META_CONTEXTS.filter(({ name }) =>
    queries.some(query => query === name || (wildcards && query.endsWith(':') && name.startsWith(query)))
  )
}

/** One run of equal flags; the unit of an answer to BLOCK_STATUS. */
export interface Status {
  lengthBytes: number
  flags: number
}

/** What a context says of extents: at most `maxStatuses` runs. */
export function statusesOf(context: MetaContext, extents: Extent[], maxStatuses: number): Status[] {
  const statuses: Status[] = []
  for (const extent of extents) {
    const flags = context.flagsOf(extent)
    const last = statuses.at(-1)
    if (last?.flags === flags) last.lengthBytes += extent.lengthBytes
    else if (statuses.length === maxStatuses) break
    else statuses.push({ lengthBytes: extent.lengthBytes, flags })
  }
  return statuses
}
