/**
 * The Linux kernel's own NBD client, inside a guest: a machine's disk is attached there as /dev/nbd0, gets a file system,
 * is written, trimmed and unmounted, and is compared from outside.
 *
 * The guest has no network but one address, behind which QEMU joins it with the socket (`guestfwd`). Skipped where the
 * Debian appliance cannot be built, as debian.test.ts.
 */
import { truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, expect, test } from 'vitest'
import { debianAppliance, debianCanBeHad } from '../tools/appliance.ts'
import { boot, DISK_TROUBLE } from '../tools/boot.ts'
import { hashFile } from '../tools/files.ts'
import { removeFolders, temporaryFolder } from '../tools/folders.ts'
import { endProcesses, runOk, start } from '../tools/processes.ts'

const tool = (name: string) => fileURLToPath(new URL(`../tools/${name}`, import.meta.url))
const MIB = 1024 * 1024
const SIZE_BYTES = 96 * MIB
const GONE_MIB = 16
const BOOT_TIMEOUT_MS = 300_000

/** How much of the disk is data, by its own account. */
async function dataBytes(uri: string): Promise<number> {
  const map: { length: number; type: number }[] = JSON.parse(await runOk('nbdinfo', ['--map', '--json', uri]))
  return map.filter(({ type }) => type === 0).reduce((sum, { length }) => sum + length, 0)
}

afterAll(async () => {
  await endProcesses()
  await removeFolders()
})

describe.skipIf(!debianCanBeHad())('the kernel of a guest', () => {
  test('makes a file system on an export, which holds what it wrote', async () => {
    const appliance = await debianAppliance()
    const folder = await temporaryFolder()
    const image = join(folder, 'image.raw')
    await writeFile(image, '')
    await truncate(image, SIZE_BYTES)
    const socket = join(folder, 's')
    const server = start(process.execPath, [tool('nbd-serve.ts'), socket, `machine:second=${image}`])
    await server.waitForOutput(/ready/, { timeoutMs: 60_000 })

    const bridge = `${process.execPath} ${tool('socket-bridge.ts')} ${socket}`
    const network = `user,id=net0,restrict=on,guestfwd=tcp:10.0.2.100:10809-cmd:${bridge}`
    const extra = ['-netdev', network, '-device', 'virtio-net-pci,netdev=net0']
    const guest = boot({ disk: appliance.v1, memoryMb: 512, extra })
    await guest.waitFor(/APPLIANCE-READY/, BOOT_TIMEOUT_MS)
    await guest.login(BOOT_TIMEOUT_MS)
    const run = guest.shell()
    await run('d=$(ls /sys/class/net | grep -vx lo | head -n 1)')
    await run('ip link set $d up; ip addr replace 10.0.2.15/24 dev $d')
    await run('modprobe nbd')
    const attached = await run('nbd-client 10.0.2.100 10809 /dev/nbd0 -name second -block-size 4096')
    expect(attached).not.toMatch(/error/i)
    expect(await run('blockdev --getsize64 /dev/nbd0; echo')).toContain(String(SIZE_BYTES))

    // The inode tables are zeroed here and now, not by the kernel in the background, while the disk's data are counted.
    await run('mkfs.ext4 -q -E lazy_itable_init=0,lazy_journal_init=0 /dev/nbd0 && mount /dev/nbd0 /mnt')
    await run('dd if=/dev/urandom of=/mnt/kept bs=1M count=8 conv=fsync status=none')
    await run(`dd if=/dev/urandom of=/mnt/gone bs=1M count=${GONE_MIB} conv=fsync status=none`)
    await run('sync')
    const uri = `nbd+unix:///second?socket=${socket}`
    const writtenBytes = await dataBytes(uri)
    await run('rm /mnt/gone; sync; fstrim -v /mnt')
    // What was trimmed is a hole again, to whoever looks from outside.
    expect(writtenBytes - (await dataBytes(uri))).toBeGreaterThanOrEqual(GONE_MIB * MIB)
    const [, hash] = (await run('sha256sum /mnt/kept')).match(/([0-9a-f]{64})/) ?? []
    await run('umount /mnt && fsck.ext4 -fn /dev/nbd0')
    await run('nbd-client -d /dev/nbd0')
    expect(guest.console).not.toMatch(DISK_TROUBLE)
    await guest.powerOff()

    // From outside, through another client.
    const copy = join(folder, 'copy.raw')
    await runOk('nbdcopy', [uri, copy])
    await runOk('e2fsck', ['-fn', copy])
    await runOk('debugfs', ['-R', `dump /kept ${join(folder, 'kept')}`, copy])
    expect(await hashFile(join(folder, 'kept'))).toBe(hash)
    expect(await server.stop()).toEqual({ status: 0, signal: null })
    expect(server.stderr).not.toMatch(/ warn /)
  })
})
