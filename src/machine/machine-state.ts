/**
 * What `rowan status` says of one machine, also of one that cannot be used.
 *
 * Its numbers come from the disk's thread, its layers from its folder, how much is here from its image. Where one of
 * these cannot be read, the others are told all the same, with the error.
 */
import { asRowanError, type RowanError } from '../errors.ts'
import type { BootProgress } from './boot-watch.ts'
import type { MachineDescription } from './description.ts'
import type { Machine } from './machine.ts'
import { type MachineStats, noStats } from './machine-stats.ts'

export interface MachineState extends MachineStats {
  name: string
  /** Undefined when the machine cannot be used. */
  description: MachineDescription | undefined
  attached: boolean
  clients: number
  layers: number
  /** What they take on this host's disk, those of the data disk included. */
  layerBytes: number
  /** Of its data disk; undefined if it has none. */
  dataBytes: number | undefined
  local: { blocks: number; of: number }
  /** Undefined while it is not attached. */
  boot: BootProgress | undefined
  error?: RowanError
}

/** @param error - why it cannot be used, or could not be served again */
export async function stateOf(
  name: string,
  machine: Machine | undefined,
  error: RowanError | undefined
): Promise<MachineState> {
  const failed = error === undefined ? {} : { error }
  const description = machine?.description
  const base = { name, description, attached: machine?.disk !== undefined, boot: machine?.bootProgress }
  const nothing = { layers: 0, layerBytes: 0, dataBytes: undefined, local: { blocks: 0, of: 0 } }
  if (machine === undefined) return { ...base, clients: 0, ...nothing, ...noStats(), ...failed }
  const known = { ...base, clients: await machine.clients(), ...(await machine.stats()) }
  try {
    const { count, bytes, dataBytes } = machine.layers
    return { ...known, layers: count, layerBytes: bytes, dataBytes, local: await machine.local(), ...failed }
  } catch (problem) {
    return { ...known, ...nothing, error: error ?? asRowanError(problem, 'STORE_IO', name) }
  }
}
