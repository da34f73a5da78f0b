/**
 * `npm run demo`: a publisher, a replica and a volunteer on this machine, and a virtual machine that the volunteer
 * boots from an image that it has not downloaded.
 *
 *   npm run demo                     builds a Debian appliance (the first time), takes it from then on
 *   npm run demo -- --image FILE     a disk of your own, raw or qcow2, that boots with a BIOS
 *   npm run demo -- --folder DIR     where the peers live; .demo in the checkout if absent
 *   npm run demo -- --kvm            boots with KVM where it can be had
 *   npm run demo -- --keep           leaves the peers running at the end, until Ctrl-C
 */
import { parseArgs } from 'node:util'
import { type Appliance, debianAppliance, debianIsBuilt, ownImage } from './demo/appliance.ts'
import { bootMachine } from './demo/boot.ts'
import { DemoError, endChildren, endChildrenOnSignals } from './demo/children.ts'
import { DemoPeer, freshDemoFolder } from './demo/peers.ts'
import { formatBytes, formatSeconds, say, step } from './demo/progress.ts'
import { quietStatus, reportOf, sourcesOf } from './demo/report.ts'
import { ensureTools } from './demo/tools.ts'

const MACHINE = 'worker'
/** Share of an image's data that a boot reads, where nobody has measured it: that of the Debian appliance. */
const BOOT_SHARE = 0.13

function options(): { image?: string; folder?: string; keep?: boolean; kvm?: boolean } {
  try {
    const text = { type: 'string' } as const
    return parseArgs({ options: { image: text, folder: text, keep: { type: 'boolean' }, kvm: { type: 'boolean' } } })
      .values
  } catch (error) {
    console.error(`${(error as Error).message}\nusage: npm run demo -- [--image FILE] [--folder DIR] [--kvm] [--keep]`)
    process.exit(2)
  }
}

async function chooseAppliance(image: string | undefined): Promise<Appliance> {
  const own = image === undefined ? undefined : ownImage(image)
  const qcow2 = own !== undefined && !own.file.endsWith('.raw')
  await ensureTools({ building: own === undefined && !debianIsBuilt(), qcow2 })
  return own ?? (await debianAppliance())
}

async function demo(): Promise<void> {
  const started = performance.now()
  const { image, folder: wanted, keep, kvm = false } = options()
  const appliance = await chooseAppliance(image)

  step('Three peers, each a process of its own')
  const folder = await freshDemoFolder(wanted)
  const publisher = await DemoPeer.start(folder, 'publisher', [])
  const replica = await DemoPeer.start(folder, 'replica', [publisher])

  step(`The publisher publishes ${appliance.file} (${formatBytes(appliance.sizeBytes)})`)
  const published = await publisher.command(['publish', appliance.file, `${appliance.name}@v1`])
  const dataBlocks = published.blocks - published.zeroBlocks
  say(`${dataBlocks} blocks of data hashed, stored and signed in ${published.seconds.toFixed(1)} s`)

  step('The replica completes the image and serves it on')
  await replica.command(['replicate', published.appliance, '--wait'])

  step('The volunteer, who has nothing, finds it')
  const volunteer = await DemoPeer.start(folder, 'volunteer', [replica])
  await volunteer.command(['follow', published.appliance, '--as', appliance.name])
  const attachStarted = performance.now()
  const attached = await volunteer.command(['attach', appliance.name, '--as', MACHINE])
  const attachMs = performance.now() - attachStarted
  say(`a disk of ${formatBytes(attached.size)} after ${formatSeconds(attachMs)}: ${attached.uri}`)

  step(`… and boots it in QEMU${kvm ? '' : ', without acceleration'}`)
  const bootBlocks = appliance.bootBlocks ?? Math.ceil(BOOT_SHARE * dataBlocks)
  const boot = await bootMachine(volunteer, MACHINE, appliance, { folder, kvm, bootBlocks })
  const { machine, exchanging } = await quietStatus(volunteer, MACHINE)
  const sources = sourcesOf(exchanging, [publisher, replica])

  step('Done')
  const peers = { publisher, replica, volunteer }
  const totalMs = performance.now() - started
  console.log(
    `\n${reportOf({ appliance, kvm, published, attached, attachMs, boot, machine, peers, sources, totalMs })}\n`
  )
  if (keep === true) {
    console.log('  The peers keep running. Ctrl-C ends them.')
    await Promise.all([publisher.child.left, replica.child.left, volunteer.child.left])
  }
}

endChildrenOnSignals()
try {
  await demo()
} catch (error) {
  const message = error instanceof DemoError ? error.message : ((error as Error).stack ?? String(error))
  console.error(`\nThe demo has failed: ${message}`)
  process.exitCode = 1
} finally {
  await endChildren()
}
