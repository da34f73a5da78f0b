/**
 * The two disks of a machine under a real operating system, as `rowan run` gives them to it: what the guest frees with
 * fstrim goes back to the host's disk, and what it keeps on its data disk is there when guest and daemon have gone.
 *
 * Skipped where the Debian appliance cannot be built, as debian.test.ts.
 */
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { debianAppliance, debianCanBeHad } from '../tools/appliance.ts'
import { DISK_TROUBLE, Guest } from '../tools/boot.ts'
import { hashFile } from '../tools/files.ts'
import { removeFolders, temporaryFolder } from '../tools/folders.ts'
import { Peer, ROWAN } from '../tools/peers.ts'
import { endProcesses, runOk, start } from '../tools/processes.ts'
import { waitUntil } from '../tools/wait.ts'

const MIB = 1024 * 1024
const GONE_MIB = 48
/** Meanwhile the file system writes its journal, some MiB. */
const BACK_BYTES = 36 * MIB
const BOOT_TIMEOUT_MS = 300_000
const PUNCHED_TIMEOUT_MS = 60_000
const QEMU_ARGS = ['-m', '512', '-accel', 'tcg,thread=multi']

afterAll(async () => {
  await endProcesses()
  await removeFolders()
})

/** What a layer takes on the host's disk. */
async function allocatedBytes(peer: Peer, layer: string): Promise<number> {
  return (await stat(join(peer.home, 'machines/m/layers', layer, 'data'))).blocks * 512
}

describe.skipIf(!debianCanBeHad())('the disks of a machine in a guest', () => {
  test('give freed space back to the host, and a data disk keeps what was written to it', async () => {
    const appliance = await debianAppliance()
    const peer = await Peer.start()
    await peer.json(['publish', appliance.v1, 'grid@v1'])
    const machine = ['--as', 'm', '--net', 'none', '--data-disk', '256MB', '--home', peer.home]
    const guest = new Guest(start(ROWAN, ['run', 'grid', ...machine, '--', ...QEMU_ARGS], { name: 'rowan run' }))
    await guest.waitFor(/APPLIANCE-READY/, BOOT_TIMEOUT_MS)
    await guest.login(BOOT_TIMEOUT_MS)
    const run = guest.shell()
    await run('mkfs.ext4 -q -E lazy_itable_init=0,lazy_journal_init=0 /dev/vdb && mount /dev/vdb /mnt')
    await run('dd if=/dev/urandom of=/mnt/kept bs=1M count=8 conv=fsync status=none')
    const [, hash] = (await run('sha256sum /mnt/kept')).match(/([0-9a-f]{64})/) ?? []

    for (const { folder, layer } of [
      { folder: '/mnt', layer: 'd0001' },
      { folder: '/root', layer: '0001' }
    ]) {
      await run(`fstrim ${folder === '/root' ? '/' : folder}`)
      await run(`dd if=/dev/urandom of=${folder}/gone bs=1M count=${GONE_MIB} conv=fsync status=none; sync`)
      const writtenBytes = await allocatedBytes(peer, layer)
      expect(writtenBytes).toBeGreaterThan(GONE_MIB * MIB)
      await run(`rm ${folder}/gone; sync; fstrim -v ${folder === '/root' ? '/' : folder}`)
      let leftBytes = writtenBytes
      await waitUntil(
        `${layer} to take less of the host's disk`,
        async () => {
          leftBytes = await allocatedBytes(peer, layer)
          return writtenBytes - leftBytes > BACK_BYTES
        },
        {
          timeoutMs: PUNCHED_TIMEOUT_MS,
          details: () => `${writtenBytes} ${leftBytes} ${guest.process.tail()}${peer.process.tail()}`
        }
      )
    }

    await run('umount /mnt')
    expect(guest.console).not.toMatch(DISK_TROUBLE)
    guest.type('poweroff\n')
    expect(await guest.process.exited).toMatchObject({ status: 0 })
    await peer.kill()
    await peer.up()

    const { uri } = await peer.json(['attach', 'grid', '--as', 'm'])
    const folder = await temporaryFolder()
    const copy = join(folder, 'data.raw')
    await runOk('nbdcopy', [uri.replace('/m?', '/m/data?'), copy])
    await runOk('e2fsck', ['-fn', copy])
    await runOk('debugfs', ['-R', `dump /kept ${join(folder, 'kept')}`, copy])
    expect(await hashFile(join(folder, 'kept'))).toBe(hash)
  })
})
