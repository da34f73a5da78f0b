/**
 * Which releases the machines of this peer use, for their leases.
 *
 * A release is *running* while a machine of it is attached: its disk is served, and whether a guest is at it this very
 * moment may change at any time. It is *kept* while a machine of it has layers of its own, attached or not: without the
 * release what is in them is worth nothing. A machine that was never written to and is detached uses nothing.
 */
import type { Share } from '../directory/directory.ts'
import type { MachineDescription } from './description.ts'

type Used = Pick<MachineDescription, 'appliance' | 'version' | 'image' | 'attached' | 'hasLayer'>

/** One entry for each release, whatever the number of its machines. */
export function sharesOf(machines: readonly Used[]): Share[] {
  const shares = new Map<string, Share>()
  for (const { appliance, version, image, attached, hasLayer } of machines) {
    const release = `${appliance}@${version}`
    const { running, keep } = shares.get(release) ?? { running: false, keep: false }
    shares.set(release, { release, image, running: running || attached, keep: keep || hasLayer })
  }
  return [...shares.values()].filter(({ running, keep }) => running || keep)
}
