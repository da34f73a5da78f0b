/**
 * What a client and this server agreed on before transmission.
 */
import type { Export } from './export.ts'
import type { MetaContext } from './meta-context.ts'

/** `extended` takes precedence over `structured`, whichever was asked for first. */
export type ReplyMode = 'simple' | 'structured' | 'extended'

/** The export that transmission begins with, and how. */
export interface Session {
  name: string
  export: Export
  /** The client asked for the block sizes, so it must keep to them. */
  knowsBlockSizes: boolean
  mode: ReplyMode
  /** What BLOCK_STATUS tells; none where the client selected none, or selected them for another export. */
  contexts: readonly MetaContext[]
}
