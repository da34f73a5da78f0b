#!/bin/bash
# build-debian.sh OUTDIR: builds a real appliance, two versions of one bootable Debian 12 disk.
#
#   OUTDIR/grid-v1.raw   1.5 GiB sparse raw disk: MBR, one ext4 partition, GRUB in BIOS mode, cloud kernel,
#                        systemd, serial console on ttyS0 (root/root), compilers and Python as a worker would have
#   OUTDIR/grid-v2.raw   the same disk after an upgrade inside it: packages added and one removed, files changed
#
# Each boots under plain QEMU (BIOS) from a virtio disk and prints 'APPLIANCE-READY <uptime>' on ttyS0 once the
# boot is done, then 'APPLIANCE-WORK <n>' for a short CPU-bound job. Takes 1-3 minutes and needs root, loop
# devices and Debian's packages mmdebstrap, grub-pc-bin, grub2-common, fdisk, e2fsprogs (installed when missing).
# A finished image is kept: the script is free to call again, also while another call is building.
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin   # losetup, sfdisk, mkfs, grub-install: not on everybody's PATH
out=${1:?usage: build-debian.sh OUTDIR}; mkdir -p "$out"; out=$(cd "$out" && pwd)
exec 9>"$out/.lock"; flock 9
[ -s "$out/grid-v2.raw" ] && [ -e "$out/.complete" ] && { echo "$out is complete"; exit 0; }

[ "$(id -u)" = 0 ] || { echo "build-debian.sh: needs root (loop devices, mount, chroot): sudo $0 $out" >&2; exit 1; }
need=(); for p in mmdebstrap grub-pc-bin grub2-common fdisk e2fsprogs; do dpkg -s $p >/dev/null 2>&1 || need+=("$p"); done
if [ ${#need[@]} -gt 0 ]; then
  echo "0/4 tools: ${need[*]}"
  apt-get update -qq; DEBIAN_FRONTEND=noninteractive apt-get install -yqq --no-install-recommends "${need[@]}" >/dev/null
fi
losetup -f >/dev/null 2>&1 || { echo "build-debian.sh: no loop device can be had on this machine" >&2; exit 1; }

work=$(mktemp -d); loop=; mnt=$work/mnt; mkdir "$mnt"
cleanup() {
  set +e
  for d in dev proc sys; do mountpoint -q "$mnt/$d" && umount "$mnt/$d"; done
  mountpoint -q "$mnt" && umount "$mnt"
  [ -n "$loop" ] && losetup -d "$loop"
  rm -rf --one-file-system "$work"
}
trap cleanup EXIT

echo "1/4 packages"
mmdebstrap -q --variant=minbase --components=main \
  --include=linux-image-cloud-amd64,systemd-sysv,udev,initramfs-tools,nbd-client,iproute2,ifupdown,isc-dhcp-client,openssh-server,python3,gcc,make,perl,curl,less,vim-tiny,ca-certificates,e2fsprogs,zstd \
  bookworm "$work/root.tar"

echo "2/4 disk"
truncate -s 1536M "$work/v1.raw"
echo 'start=2048, type=83, bootable' | sfdisk -q "$work/v1.raw"
loop=$(losetup -fP --show "$work/v1.raw"); part=
[ -e "${loop}p1" ] || { losetup -d "$loop"; loop=$(losetup -f --show -o 1048576 "$work/v1.raw"); part=$loop; }
part=${part:-${loop}p1}
mkfs.ext4 -q -L rootfs -E hash_seed=00000000-0000-0000-0000-000000000001 -U 00000000-0000-0000-0000-0000000000aa "$part"
mount "$part" "$mnt"
tar -xf "$work/root.tar" -C "$mnt"
echo 'root:root' | chroot "$mnt" chpasswd
echo grid-worker > "$mnt/etc/hostname"
echo 'LABEL=rootfs / ext4 defaults,noatime 0 1' > "$mnt/etc/fstab"
printf 'auto lo\niface lo inet loopback\n' > "$mnt/etc/network/interfaces"
cat > "$mnt/etc/systemd/system/appliance-ready.service" <<'U'
[Unit]
Description=Tell the serial console that the boot is done
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'read up _ < /proc/uptime; echo APPLIANCE-READY $up $(cat /etc/appliance-version) > /dev/ttyS0'
ExecStart=/bin/sh -c 'echo APPLIANCE-WORK $(python3 -c "print(sum(i*i for i in range(200000)))") > /dev/ttyS0'
[Install]
WantedBy=multi-user.target
U
mkdir -p "$mnt/etc/systemd/system/multi-user.target.wants"
ln -s ../appliance-ready.service "$mnt/etc/systemd/system/multi-user.target.wants/"
echo v1 > "$mnt/etc/appliance-version"
k=$(basename "$mnt"/boot/vmlinuz-*); i=$(basename "$mnt"/boot/initrd.img-*)
mkdir -p "$mnt/boot/grub"
cat > "$mnt/boot/grub/grub.cfg" <<G
set timeout=0
serial --unit=0 --speed=115200
terminal_output serial
menuentry appliance {
  search --no-floppy --label rootfs --set=root
  linux /boot/$k root=LABEL=rootfs rw console=ttyS0 quiet systemd.show_status=0
  initrd /boot/$i
}
G

echo "3/4 boot loader"
disk=${loop%p1}
grub-install --target=i386-pc --boot-directory="$mnt/boot" --modules="part_msdos ext2 biosdisk" --no-floppy "$disk" >/dev/null 2>&1 || {
  # the partition has no node of its own: attach the whole disk beside it
  whole=$(losetup -f --show "$work/v1.raw"); printf '(hd0) %s\n' "$whole" > "$work/device.map"
  grub-install --target=i386-pc --boot-directory="$mnt/boot" --modules="part_msdos ext2 biosdisk" --grub-mkdevicemap="$work/device.map" "$whole"
  losetup -d "$whole"
}
fstrim "$mnt" 2>/dev/null || true
sync; umount "$mnt"
cp --sparse=always "$work/v1.raw" "$out/grid-v1.raw"

echo "4/4 the upgrade"
mount "$part" "$mnt"; for d in dev proc sys; do mount --bind /$d "$mnt/$d"; done
cp /etc/resolv.conf "$mnt/etc/resolv.conf" 2>/dev/null || true
cp -a "$mnt/etc/apt" "$work/apt-own"
for f in /etc/apt/apt.conf.d/*; do cp -n "$f" "$mnt/etc/apt/apt.conf.d/" 2>/dev/null || true; done
chroot "$mnt" /usr/bin/env DEBIAN_FRONTEND=noninteractive sh -c '
  apt-get update -qq && apt-get install -yqq --no-install-recommends python3-numpy strace >/dev/null &&
  apt-get purge -yqq vim-tiny >/dev/null && apt-get clean && rm -rf /var/lib/apt/lists/*' 2>"$work/upgrade.log" ||
  { cat "$work/upgrade.log" >&2; exit 1; }
rm -rf "$mnt/etc/apt"; cp -a "$work/apt-own" "$mnt/etc/apt"
echo v2 > "$mnt/etc/appliance-version"
for d in sys proc dev; do umount "$mnt/$d"; done
fstrim "$mnt" 2>/dev/null || true
sync; umount "$mnt"
cp --sparse=always "$work/v1.raw" "$out/grid-v2.raw"
touch "$out/.complete"
ls -lsh "$out"
